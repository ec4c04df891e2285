import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterEach, expect, it, vi } from 'vitest';
import { NodeFileSystem } from './file-system.ts';

const fault = (code: string) => Object.assign(new Error(code), { code });

afterEach(() => void vi.restoreAllMocks());

/** Reads a file whose reads fail so many times. */
async function readFailing(code: string, times: number): Promise<{ text: string; reads: number }> {
  using dir = temporaryDirectory();
  const path = join(dir.path, 'file');
  await writeFile(path, 'content');
  await using handle = await open(path, 'r');
  const read = vi.spyOn(Object.getPrototypeOf(handle), 'read');
  for (let n = 0; n < times; n++) read.mockRejectedValueOnce(fault(code));
  const file = await new NodeFileSystem().open(path, 'read');
  const into = Buffer.alloc(7);
  try {
    await file.read(into, 0);
    return { text: into.toString(), reads: read.mock.calls.length };
  } finally {
    await file.close();
  }
}

it('reads data after a transient read error', async () => {
  expect(await readFailing('EIO', 2)).toEqual({ text: 'content', reads: 3 });
});

it('gives up on persistent disk errors, and immediately on others', async () => {
  await expect(readFailing('EIO', 5)).rejects.toThrow('EIO');
  await expect(readFailing('EBADF', 1)).rejects.toThrow('EBADF');
});
