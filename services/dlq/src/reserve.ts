import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '@nrdot/config';

/** For deletion and checkpoints. */
const OWN_BYTES = 64 * 1024 * 1024;
/** Redis rewrites its AOF at twice the size of what it holds, and then needs room for both files. */
const AOF_FACTOR = 3;

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
): Promise<number> {
  if (dlq.reserveBytes !== undefined) return dlq.reserveBytes;
  const shares = redisIsOwn && (await deviceOf(dir)) === (await deviceOf(join(dataDir, 'redis')));
  return OWN_BYTES + (shares ? AOF_FACTOR * queue.maxBytes : 0);
}

async function deviceOf(path: string): Promise<number> {
  return (await stat(path)).dev;
}
