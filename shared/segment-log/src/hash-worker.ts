import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';

interface Job {
  id: number;
  path: string;
  start: number;
  end: number;
  maxBytesPerSecond: number;
}

const CHUNK_BYTES = 1024 * 1024;

/** Hashes parts of files for the main thread; a slow background job does not delay others. */
parentPort?.on('message', (job: Job) => void run(job));

async function run({ id, path, start, end, maxBytesPerSecond }: Job): Promise<void> {
  try {
    const hash = createHash('sha256');
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    const handle = await open(path, 'r');
    const startedAt = performance.now();
    try {
      for (let at = start; at < end; ) {
        const { bytesRead } = await handle.read(chunk, 0, Math.min(CHUNK_BYTES, end - at), at);
        if (bytesRead === 0) break;
        hash.update(chunk.subarray(0, bytesRead));
        at += bytesRead;
        const ahead = ((at - start) / maxBytesPerSecond) * 1000 - (performance.now() - startedAt);
        if (ahead > 5) await wait(ahead);
      }
    } finally {
      await handle.close();
    }
    parentPort?.postMessage({ id, hash: hash.digest() });
  } catch (error) {
    parentPort?.postMessage({
      id,
      error: (error as Error).message,
      code: (error as NodeJS.ErrnoException).code,
    });
  }
}
