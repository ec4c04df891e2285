import { setTimeout as wait } from 'node:timers/promises';
import { isExhausted } from './errors.ts';
import { type FileSystem, unchanged } from './file-system.ts';

const TRIES = 20;
const BETWEEN_TRIES_MS = 100;

/**
 * A file system that waits up to two seconds for descriptors and memory. Only for opening a log, which decides what is on the
 * disk and has nothing else to do. A running log retries in its next turn.
 */
export function patient(fs: FileSystem): FileSystem {
  return {
    async open(path, mode) {
      const file = await patiently(() => fs.open(path, mode));
      return {
        ...unchanged(file),
        read: (into, at) => patiently(() => file.read(into, at)),
        size: () => patiently(() => file.size()),
      };
    },
    rename: (from, to) => fs.rename(from, to),
    unlink: (path) => fs.unlink(path),
    list: (dir) => patiently(() => fs.list(dir)),
    mkdir: (dir) => fs.mkdir(dir),
    syncDir: (dir) => patiently(() => fs.syncDir(dir)),
    freeBytes: (dir) => fs.freeBytes(dir),
    sha256: (...of) => fs.sha256(...of),
    close: () => fs.close(),
  };
}

async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let left = TRIES - 1; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (!isExhausted(error) || left === 0) throw error;
    }
    await wait(BETWEEN_TRIES_MS);
  }
}
