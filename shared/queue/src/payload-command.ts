import type { Writable } from 'node:stream';
import { Command } from 'ioredis';

/** Below this size, a copy costs less than separate writes. */
export const LARGE_PAYLOAD_BYTES = 1024 * 1024;

type Chunks = { chunk: Buffer | string; encoding: BufferEncoding }[] & { allBuffers?: boolean };
type Writev = (chunks: Chunks, done: (error?: Error | null) => void) => void;
type Paced = Omit<Writable, '_writev'> & { _writev: Writev; [IS_PACED]?: true };
const IS_PACED = Symbol('paced');

/**
 * `SET key payload …` for a large payload. ioredis would copy it into one buffer with its command, and TLS would encrypt it in
 * one go: 60 MiB would block the event loop for 60 or 120 ms. Here it is written in slices, without a copy.
 */
export class PayloadCommand extends Command {
  readonly #head: string;
  readonly #payload: Buffer;
  readonly #tail: string;

  constructor(key: string, payload: Buffer, ...options: string[]) {
    super('set', [key, payload, ...options], { replyEncoding: 'utf8' });
    this.#head = `*${3 + options.length}\r\n${bulk('set')}${bulk(key)}$${payload.byteLength}\r\n`;
    this.#payload = payload;
    this.#tail = `\r\n${options.map(bulk).join('')}`;
  }

  override toWritable(socket: object): string {
    const writable = socket as Paced;
    pace(writable);
    writable.write(this.#head);
    for (let at = 0; at < this.#payload.byteLength; at += LARGE_PAYLOAD_BYTES)
      writable.write(this.#payload.subarray(at, at + LARGE_PAYLOAD_BYTES));
    return this.#tail;
  }
}

function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

/** Writes a socket's buffered data in slices, so that other work runs in between. */
function pace(socket: Paced): void {
  if (socket[IS_PACED]) return;
  socket[IS_PACED] = true;
  const writev = socket._writev.bind(socket);
  socket._writev = (chunks, done) => {
    let at = 0;
    const writeNext = (error?: Error | null) => {
      if (error || at === chunks.length) return done(error);
      const from = at;
      let bytes = 0;
      do bytes += chunks[at++]!.chunk.length;
      while (at < chunks.length && bytes + chunks[at]!.chunk.length <= LARGE_PAYLOAD_BYTES);
      if (at - from === chunks.length) return writev(chunks, done);
      const some: Chunks = Object.assign(chunks.slice(from, at), { allBuffers: chunks.allBuffers ?? false });
      writev(some, at === chunks.length ? done : (failed) => setImmediate(writeNext, failed));
    };
    writeNext();
  };
}
