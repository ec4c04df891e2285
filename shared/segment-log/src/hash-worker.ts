import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { type MessagePort, parentPort } from 'node:worker_threads';

interface Job {
  path: string;
  start: number;
  end: number;
  maxBytesPerSecond: number;
  answers: MessagePort;
}

const CHUNK_BYTES = 1024 * 1024;

/** Hashes parts of files for the main thread; a slow background job does not delay others. */
parentPort?.on('message', (job: Job) => void run(job));

async function run({ path, start, end, maxBytesPerSecond, answers }: Job): Promise<void> {
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
    answers.postMessage({ hash: hash.digest() });
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    answers.postMessage({ error: message, code });
  }
}
