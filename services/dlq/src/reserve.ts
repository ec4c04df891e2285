import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '@nrdot/config';

/** For deletion and checkpoints. */
const OWN_BYTES = 64 * 1024 * 1024;
/** Redis rewrites its AOF at twice the size of what it holds, and then needs room for both files. */
const AOF_FACTOR = 3;

export interface Reserve {
  /** `dlq.reserve`, or its default. */
  reserveBytes: number;
  /** What the AOF of a Redis on the same disk may still grow by; 0 with a `dlq.reserve` of one's own. */
  othersBytes(): Promise<number>;
}

/**
 * How many bytes of its disk the dlq leaves free: `dlq.reserve`, or by default what the disk's users need. A Redis that cannot
 * write its AOF stops, and delivery would not resume before somebody makes room.
 * @param dir of the segments
 * @param redisIsOwn whether this process runs Redis, which then has its files below `data_dir`
 */
export async function reserveOf(
  { dlq, queue, dataDir }: Pick<Config, 'dlq' | 'queue' | 'dataDir'>,
  dir: string,
  redisIsOwn: boolean,
): Promise<Reserve> {
  const redisDir = join(dataDir, 'redis');
  const shares =
    dlq.reserveBytes === undefined && redisIsOwn && (await stat(dir)).dev === (await stat(redisDir)).dev;
  return {
    reserveBytes: dlq.reserveBytes ?? OWN_BYTES,
    othersBytes: async () =>
      shares ? Math.max(0, AOF_FACTOR * queue.maxBytes - (await bytesIn(redisDir))) : 0,
  };
}

/** All that is kept free at the moment. */
export async function keptFree({ reserveBytes, othersBytes }: Reserve): Promise<number> {
  return reserveBytes + (await othersBytes());
}

async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async (entry) =>
    // A file of a rewrite that has ended may be gone.
    entry.isFile()
      ? await stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        )
      : 0,
  );
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
