import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DirectoryLock, DirectoryTaken } from './directory-lock.ts';

const TRIES = 25;

/** A socket that nobody listens on. */
async function leftByAKill(path: string): Promise<void> {
  const server = createServer().listen(`${path}.kept`);
  await once(server, 'listening');
  linkSync(`${path}.kept`, path);
  server.close(); // takes its own name away
  await once(server, 'close');
}

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nrdot-lock-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('a directory', () => {
  it('has one owner at a time, which is named, and the next one when it is freed', async () => {
    const first = await DirectoryLock.take(dir);
    expect(first).toBeDefined();
    await expect(DirectoryLock.take(dir)).rejects.toThrow(DirectoryTaken);
    await expect(DirectoryLock.take(dir)).rejects.toThrow(`process ${process.pid}`);
    await first!.free();
    const second = await DirectoryLock.take(dir);
    expect(second).toBeDefined();
    await second!.free();
  });

  it('can be taken over after a kill -9', async () => {
    const script = `import { DirectoryLock } from ${JSON.stringify(import.meta.resolve('./directory-lock.ts'))};
      await DirectoryLock.take(${JSON.stringify(dir)}); console.log('taken'); setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ['--input-type=module', '-e', script]);
    await once(owner.stdout, 'data');
    await expect(DirectoryLock.take(dir)).rejects.toThrow(`process ${owner.pid}`);
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    const next = await DirectoryLock.take(dir);
    expect(next).toBeDefined();
    await next!.free();
  });

  it('goes to exactly one of several processes that start at once after a kill', async () => {
    // Processes that stay, so that each try costs a line and the tries are many.
    const script = `import { createInterface } from 'node:readline';
      import { DirectoryLock } from ${JSON.stringify(import.meta.resolve('./directory-lock.ts'))};
      let lock;
      for await (const order of createInterface({ input: process.stdin })) {
        if (order === 'free') await lock?.free();
        else lock = await DirectoryLock.take(order).catch(() => undefined);
        console.log(lock && order !== 'free' ? 'taken' : 'not');
      }`;
    const contenders = Array.from({ length: 3 }, () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const order = async (what: string) => {
        child.stdin.write(`${what}\n`);
        return (await lines.next()).value as string;
      };
      return { child, order };
    });
    const owners: number[] = [];
    for (let n = 0; n < TRIES; n++) {
      const contested = join(dir, String(n));
      mkdirSync(contested);
      await leftByAKill(join(contested, 'owner.sock'));
      const answers = await Promise.all(contenders.map(({ order }) => order(contested)));
      owners.push(answers.filter((answer) => answer === 'taken').length);
      await Promise.all(contenders.map(({ order }) => order('free')));
      // And it is free again, with nothing that has to be tidied up by hand.
      await (await DirectoryLock.take(contested))!.free();
      expect(readdirSync(contested)).toEqual([]);
    }
    for (const { child } of contenders) child.kill();
    expect(owners).toEqual(Array(TRIES).fill(1));
  });

  it('is not locked by a process without a free descriptor, which is reported', async () => {
    const script = `import { openSync } from 'node:fs';
      import { DirectoryLock } from ${JSON.stringify(import.meta.resolve('./directory-lock.ts'))};
      await DirectoryLock.take(${JSON.stringify(dir)}).then((lock) => lock.free()); // all of it is loaded
      try { for (;;) openSync('/dev/null'); } catch {}
      await DirectoryLock.take(${JSON.stringify(dir)}).then(
        (lock) => process.stdout.write(lock ? 'taken' : 'not taken'),
        (error) => process.stdout.write(error.code));`;
    const { stdout } = await promisify(execFile)('bash', [
      '-c',
      'ulimit -n 60; exec "$0" --input-type=module -e "$1"',
      process.execPath,
      script,
    ]);
    expect(stdout).toBe('EMFILE');
  });

  it.skipIf(process.platform !== 'linux')('may have a long name', async () => {
    const long = join(dir, 'x'.repeat(120));
    mkdirSync(long);
    const first = await DirectoryLock.take(long);
    expect(first).toBeDefined();
    await expect(DirectoryLock.take(long)).rejects.toThrow(DirectoryTaken);
    await first!.free();
  });

  it('that does not exist has no lock, which is not an error', async () => {
    expect(await DirectoryLock.take(join(dir, 'missing'))).toBeUndefined();
  });
});
