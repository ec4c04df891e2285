import { Writable } from 'node:stream';
import { Command } from 'ioredis';
import { expect, it } from 'vitest';
import { PayloadCommand } from './payload-command.ts';

const MIB = 2 ** 20;

/** Writes commands as a connection does, corked. @returns how much went out in each turn of the event loop, and all of it */
async function write(commands: readonly Command[]) {
  const turns = [0];
  const written: Buffer[] = [];
  const take = (chunk: Buffer | string, encoding: BufferEncoding) => {
    const bytes = Buffer.from(chunk as string, encoding);
    written.push(bytes);
    turns[turns.length - 1]! += bytes.byteLength;
  };
  const socket = new Writable({
    decodeStrings: false,
    write: (chunk, encoding, done) => {
      take(chunk, encoding);
      done();
    },
    writev: (chunks, done) => {
      for (const { chunk, encoding } of chunks) take(chunk, encoding);
      done();
    },
  });
  socket.cork();
  for (const command of commands) socket.write(command.toWritable(socket));
  socket.uncork();
  socket.end();
  while (!socket.writableFinished) {
    await new Promise((resolve) => setImmediate(resolve));
    turns.push(0);
  }
  return { most: Math.max(...turns), bytes: Buffer.concat(written) };
}

const payload = Buffer.alloc(5 * MIB + 3, 'payload');
const set = ['{p}:payload:1', payload, 'EX', '600', 'NX'] as const;
const after = () => new Command('eval', ['return 1', '0']);

it('writes the same bytes as ioredis, a bounded part per turn', async () => {
  const [key, , ...options] = set;
  const ours = await write([after(), new PayloadCommand(key, payload, ...options), after()]);
  const theirs = await write([after(), new Command('set', [...set]), after()]);
  expect(ours.bytes.equals(theirs.bytes)).toBe(true);
  expect(ours.most).toBeLessThan(2 * MIB);
  expect(theirs.most).toBeGreaterThan(5 * MIB);
});
