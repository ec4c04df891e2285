import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DirectoryLock, DirectoryTaken } from './directory-lock.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nrdot-lock-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('a directory', () => {
  it('belongs to one at a time, who is named, and to the next when it is freed', async () => {
    const first = await DirectoryLock.take(dir);
    expect(first).toBeDefined();
    await expect(DirectoryLock.take(dir)).rejects.toThrow(DirectoryTaken);
    await expect(DirectoryLock.take(dir)).rejects.toThrow(`process ${process.pid}`);
    await first!.free();
    const second = await DirectoryLock.take(dir);
    expect(second).toBeDefined();
    await second!.free();
  });

  it('belongs to the next after a kill -9', async () => {
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

  it.skipIf(process.platform !== 'linux')('may have a long name', async () => {
    const long = join(dir, 'x'.repeat(120));
    mkdirSync(long);
    const first = await DirectoryLock.take(long);
    expect(first).toBeDefined();
    await expect(DirectoryLock.take(long)).rejects.toThrow(DirectoryTaken);
    await first!.free();
  });

  it('that is not there has no lock, which is no reason to fail', async () => {
    expect(await DirectoryLock.take(join(dir, 'missing'))).toBeUndefined();
  });
});
