/** What was promised, what became of it, and whether Redis holds what it says it holds. */
import {
  accountingOf,
  CLASSES,
  DEPTH_FIELDS,
  type Depth,
  depthField,
  type JobData,
  keysOf,
  QUEUES,
  STAGES,
  type Stage,
} from '@nrdot/queue';
import { namesIn } from './payload.ts';
import type { RedisModel } from './redis.ts';

export class Broken extends Error {}

export const PREFIX = '{crash}';
const KEYS = keysOf(PREFIX);

export class Oracle {
  readonly sent = new Set<string>();
  /** Acknowledged; with `everysec` those that no crash could take back any more are in `owed`. */
  readonly acknowledged = new Set<string>();
  readonly owed = new Set<string>();
  /** How often each arrived. */
  readonly delivered = new Map<string, number>();
  /** The upstream refused them for good. */
  readonly refused = new Set<string>();

  arrived(items: readonly string[]): void {
    for (const item of items) {
      if (!this.sent.has(item)) throw new Broken(`${item} arrived and was never sent`);
      this.delivered.set(item, (this.delivered.get(item) ?? 0) + 1);
    }
  }

  /** What is owed and did not come. */
  missing(): string[] {
    return [...this.owed].filter((item) => !this.delivered.has(item) && !this.refused.has(item));
  }

  /** @throws Broken when something arrived more often than what happened explains */
  checkDuplicates(excuses: number): void {
    for (const [item, times] of this.delivered) {
      if (times > 1 + excuses)
        throw new Broken(`${item} arrived ${times} times; what happened explains ${1 + excuses}`);
    }
  }
}

function hash(redis: RedisModel, key: string): Record<string, string> {
  const list = redis.call('HGETALL', [key]) as string[];
  return Object.fromEntries(
    Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!]),
  );
}

/**
 * Holds the depth hash against the jobs and payloads that there are.
 * @param stages whether each stage is looked at, or their sum alone
 * @throws Broken
 */
export function checkDepth(redis: RedisModel, stages: boolean): void {
  const there: Record<string, number> = {};
  const seen = new Set<string>();
  for (const queue of QUEUES) {
    for (const job of jobsOf(redis, queue)) {
      for (const batch of job.batches) {
        const payload = KEYS.payload(batch.key);
        if (seen.has(payload) || redis.call('TTL', [payload]) !== -1) continue;
        seen.add(payload);
        for (const place of [`${stageOf(queue, job)}:${job.class}`, 'total']) {
          there[`${place}:batches`] = (there[`${place}:batches`] ?? 0) + 1;
          there[`${place}:items`] = (there[`${place}:items`] ?? 0) + batch.items;
          there[`${place}:bytes`] = (there[`${place}:bytes`] ?? 0) + batch.bytes;
        }
      }
    }
  }
  for (const key of redis.keys()) {
    if (key.startsWith(KEYS.payload('')) && !seen.has(key) && redis.call('TTL', [key]) === -1)
      throw new Broken(`the payload ${key} is in no job and does not expire`);
  }
  const said = hash(redis, KEYS.depth);
  for (const field of [...(stages ? DEPTH_FIELDS : []), 'total:batches', 'total:items', 'total:bytes']) {
    const [says, is] = [Number(said[field] ?? 0), there[field] ?? 0];
    if (says !== is) throw new Broken(`the depth says ${field} = ${says}; there are ${is}`);
  }
}

function stageOf(queue: (typeof QUEUES)[number], job: JobData): Stage {
  if (queue === 'spill') return 'spill';
  if (queue === 'export') return job.origin === 'replay' ? 'replay-export' : 'export';
  return queue.startsWith('replay-') ? 'replay' : 'queued';
}

/** The books as the pipeline keeps them. */
export function books(redis: RedisModel) {
  const said = hash(redis, KEYS.depth);
  const at = (field: string) => Number(said[field] ?? 0);
  const stages = Object.fromEntries(
    STAGES.map((stage) => [
      stage,
      Object.fromEntries(
        CLASSES.map((c) => [
          c,
          {
            batches: at(depthField(stage, c, 'batches')),
            items: at(depthField(stage, c, 'items')),
            bytes: at(depthField(stage, c, 'bytes')),
          },
        ]),
      ),
    ]),
  ) as Depth['stages'];
  const total = { batches: at('total:batches'), items: at('total:items'), bytes: at('total:bytes') };
  const counted = Object.fromEntries(
    Object.entries(hash(redis, KEYS.books)).map(([field, n]) => [field, Number(n)]),
  );
  const spilling = CLASSES.reduce((sum, c) => sum + stages.spill[c].batches, 0);
  return { total, spilling, ...accountingOf({ stages, total }, counted, hash(redis, KEYS.disk)) };
}

/** Items that wait for a dlq. */
export function heldToSpill(redis: RedisModel): string[] {
  return jobsOf(redis, 'spill').flatMap((job) =>
    job.batches.flatMap(({ key }) =>
      namesIn(Buffer.from((redis.call('GET', [KEYS.payload(key)]) as string) ?? '', 'latin1')),
    ),
  );
}

/** What should not be left in Redis when everything has ended, but for what waits for a dlq. */
export function leftovers(redis: RedisModel): string[] {
  const toSpill = new Set(
    jobsOf(redis, 'spill').flatMap((job) => job.batches.map(({ key }) => KEYS.payload(key))),
  );
  return redis.keys().filter((key) => {
    const [, queue = '', part = ''] = key.split(':');
    if (key.startsWith(KEYS.payload(''))) return !toSpill.has(key) && redis.call('TTL', [key]) === -1;
    if (key === KEYS.outcomes) return true;
    if (queue === 'spill' && toSpill.size > 0) return false;
    return (
      (QUEUES as readonly string[]).includes(queue) &&
      !['marker', 'meta'].includes(part) &&
      !key.endsWith(':lock')
    );
  });
}

function jobsOf(redis: RedisModel, queue: (typeof QUEUES)[number]): JobData[] {
  const ids = [
    ...(redis.call('LRANGE', [KEYS.queue(queue, 'wait'), '0', '-1']) as string[]),
    ...(redis.call('LRANGE', [KEYS.queue(queue, 'active'), '0', '-1']) as string[]),
    ...(redis.call('ZRANGE', [KEYS.queue(queue, 'delayed'), '0', '-1']) as string[]),
  ];
  return ids.flatMap((id) => {
    const text = redis.call('HGET', [KEYS.queue(queue, id), 'data']) as string | null;
    return text === null ? [] : [JSON.parse(text) as JobData];
  });
}
