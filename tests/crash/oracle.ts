/** What was promised, what became of it, and whether Redis holds what it says it holds. */
import { SIGNALS } from '@nrdot/otlp';
import {
  accountingOf,
  CLASSES,
  depthOf,
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
  /** Somebody gave up what was on the disk while they may have been there. */
  readonly purged = new Set<string>();

  arrived(items: readonly string[]): void {
    for (const item of items) {
      if (!this.sent.has(item)) throw new Broken(`${item} arrived and was never sent`);
      this.delivered.set(item, (this.delivered.get(item) ?? 0) + 1);
    }
  }

  /** What is owed and did not come. */
  missing(): string[] {
    return [...this.owed].filter(
      (item) => !this.delivered.has(item) && !this.refused.has(item) && !this.purged.has(item),
    );
  }

  /**
   * Some of what happened may have made copies (on the disk and in Redis), and each other thing has all copies sent again.
   * @throws Broken when something arrived more often than that explains
   */
  checkDuplicates(excuses: number): void {
    const most = Math.floor((excuses + 2) ** 2 / 4);
    for (const [item, times] of this.delivered) {
      if (times > most) throw new Broken(`${item} arrived ${times} times; what happened explains ${most}`);
    }
  }
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
        if (seen.has(payload) || !redis.keeps(payload)) continue;
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
    if (key.startsWith(KEYS.payload('')) && !seen.has(key) && redis.keeps(key))
      throw new Broken(`the payload ${key} is in no job and does not expire`);
  }
  const said = redis.hashAt(KEYS.depth);
  for (const field of stages ? FIELDS : TOTALS) {
    const [says, is] = [Number(said.get(field) ?? 0), there[field] ?? 0];
    if (says !== is) throw new Broken(`the depth says ${field} = ${says}; there are ${is}`);
  }
}

const TOTALS = ['total:batches', 'total:items', 'total:bytes'];
const FIELDS = STAGES.flatMap((stage) =>
  CLASSES.flatMap((c) => ['batches', 'items', 'bytes'].map((unit) => `${stage}:${c}:${unit}`)),
).concat(TOTALS);
const SPILLING = CLASSES.map((c) => `spill:${c}:batches`);

function stageOf(queue: (typeof QUEUES)[number], job: JobData): Stage {
  if (queue === 'spill') return 'spill';
  if (queue === 'export') return job.origin === 'replay' ? 'replay-export' : 'export';
  return queue.startsWith('replay-') ? 'replay' : 'queued';
}

/** The books as the pipeline keeps them. */
export function books(redis: RedisModel) {
  const depth = depthOf(Object.fromEntries(redis.hashAt(KEYS.depth)));
  const counted = Object.fromEntries([...redis.hashAt(KEYS.books)].map(([field, n]) => [field, Number(n)]));
  const disk = Object.fromEntries(redis.hashAt(KEYS.disk));
  return { total: depth.total, ...accountingOf(depth, counted, disk) };
}

/** Whether Redis says that it holds no batch, or none but those that wait for a dlq. */
export function saysEmpty(redis: RedisModel, butForSpilling: boolean): boolean {
  const said = redis.hashAt(KEYS.depth);
  const at = (field: string) => Number(said.get(field) ?? 0);
  return at('total:batches') === (butForSpilling ? SPILLING.reduce((sum, field) => sum + at(field), 0) : 0);
}

/** Items that wait for a dlq. */
export function heldToSpill(redis: RedisModel): string[] {
  return jobsOf(redis, 'spill').flatMap((job) =>
    job.batches.flatMap(({ key }) => namesIn(Buffer.from(redis.stringAt(KEYS.payload(key)) ?? '', 'latin1'))),
  );
}

/** What should not be left in Redis when everything has ended, but for what waits for a dlq. */
export function leftovers(redis: RedisModel): string[] {
  const toSpill = new Set(
    jobsOf(redis, 'spill').flatMap((job) => job.batches.map(({ key }) => KEYS.payload(key))),
  );
  return redis.keys().filter((key) => {
    const [, queue = '', part = ''] = key.split(':');
    if (key.startsWith(KEYS.payload(''))) return !toSpill.has(key) && redis.keeps(key);
    if (key === KEYS.outcomes) return true;
    if (queue === 'limiter') return part === 'held' || part === 'left';
    if (queue === 'spill' && toSpill.size > 0) return false;
    return (
      (QUEUES as readonly string[]).includes(queue) &&
      !['marker', 'meta'].includes(part) &&
      !key.endsWith(':lock')
    );
  });
}

/** Where jobs are that are not settled. */
const PLACES = Object.fromEntries(
  QUEUES.map((queue) => {
    const aside = Object.keys(SIGNALS).map((signal) => `aside:${signal}`);
    return [queue, ['wait', 'active', 'delayed', ...aside].map((part) => KEYS.queue(queue, part))];
  }),
) as Record<(typeof QUEUES)[number], string[]>;

function jobsOf(redis: RedisModel, queue: (typeof QUEUES)[number]): JobData[] {
  const jobs: JobData[] = [];
  for (const place of PLACES[queue]) {
    for (const id of redis.membersAt(place)) {
      const text = redis.hashAt(KEYS.queue(queue, id)).get('data');
      if (text !== undefined) jobs.push(parsed(text));
    }
  }
  return jobs;
}

/** Jobs are looked at again and again, and seldom change. */
const known = new Map<string, JobData>();
const KNOWN_MAX = 200;

function parsed(text: string): JobData {
  let data = known.get(text);
  if (!data) {
    data = JSON.parse(text) as JobData;
    if (known.size >= KNOWN_MAX) known.clear();
    known.set(text, data);
  }
  return data;
}
