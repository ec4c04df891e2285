import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { SIGNALS, type Signal } from '@nrdot/otlp';
import { defineScript, primaryOf, type RedisConnection } from '@nrdot/redis';
import type { Redis } from 'ioredis';
import { JOB_OPTIONS } from '../batch.ts';
import { type Keys, QUEUES, type QueueName } from '../keys.ts';
import { numberField } from '../number-field.ts';
import { MEND_ACTS_MAX, mend } from '../scripts/mend.ts';
import { snapshot } from '../scripts/snapshot.ts';
import type { Store } from '../store.ts';
import {
  Census,
  type Counted,
  driftText,
  flows,
  LISTS,
  SETS,
  type SeenJob,
  type TakeSnapshot,
} from './census.ts';
import { type Damage, type Diagnosis, leftOver } from './damage.ts';
import { jobDataOfLone } from './lone-payload.ts';

/** With more jobs than this the doctor does not count, because it keeps each one in memory. */
const JOBS_MAX = 200_000;
/** Maximum number of repairs of each kind in one run; another run continues. */
const MENDED_MAX = 10_000;
const EXAMPLES = 5;
const SCAN_COUNT = 1_000;
/** Time between two checks: a batch in flight has moved by then. */
const RECHECK_MS = 2_000;
const COUNTS = 5;
/** After its dlq or exporter was killed, a batch in flight is in two places until its lock expires. */
const ACCOUNTING_SETTLE_MS = 12_000;
const BOOKS_WAIT_MS = 40_000;
const ACCOUNTING_READS = 5;
const LOCK_MS = 60_000;
/** A script, since a Redis without memory refuses a plain SET. */
const LOCK = `#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX')`;

/** One act of `scripts/mend.ts`. */
interface Act {
  act: 'empty' | 'odd' | 'return' | 'stray' | 'payload' | 'depth' | 'field' | 'aside' | 'books';
  queue?: QueueName;
  id?: string;
  key?: string;
  type?: string;
  field?: string;
  data?: string;
  counts?: Record<string, number>;
}

/** What is found of a kind of damage, however often. */
type Finding = Pick<Damage, 'kind' | 'level' | 'text' | 'todo'>;
/** A finding that its act has yet to confirm. */
type Suspect = { name: string; act: Act };

type Examined = RedisConnection & {
  nrdotSnapshot: TakeSnapshot;
  nrdotMend(...args: (string | number)[]): Promise<(number | string)[]>;
};

export interface DoctorOptions {
  /** Maximum size of a payload after decompression. */
  maxBodyBytes: number;
  /** Called for each job that went to a failed set. */
  odd?(line: string): void;
  /** Time between two checks; shorter in tests. */
  recheckMs?: number;
  accountingSettleMs?: number;
}

/** Another doctor is running. */
export class DoctorBusy extends Error {
  constructor() {
    super('another doctor is running; only one can run at a time, try again in a minute');
    this.name = 'DoctorBusy';
  }
}

/**
 * Recounts what Redis holds, reports what is off, and repairs it while the pipeline runs. A finding must hold in two checks,
 * and again in the step that repairs it, so that batches in flight are never taken for damage. Every step is bounded: a
 * snapshot reads 1,000 jobs and 10,000 batches at most, a repair step does 16 acts, SCAN reads 1,000 keys at a time.
 */
export class Doctor {
  readonly #store: Store;
  readonly #redis: Examined;
  readonly #options: DoctorOptions;
  readonly #census: Census;
  readonly #lock: string;
  readonly #token = randomBytes(8).toString('hex');
  #damage: Damage[] = [];
  #repair = false;

  constructor(store: Store, options: DoctorOptions) {
    const { redis, keys } = store;
    defineScript(redis, 'nrdotSnapshot', 1, snapshot);
    defineScript(redis, 'nrdotMend', 4, mend);
    this.#store = store;
    this.#redis = redis as Examined;
    this.#options = options;
    this.#lock = `${keys.prefix}:doctor`;
    const takeSnapshot = (...args: (string | number)[]) => this.#redis.nrdotSnapshot(keys.depth, ...args);
    this.#census = new Census(redis, keys, takeSnapshot, JOBS_MAX);
  }

  /**
   * @param repair repairs what it finds; without it, nothing is changed
   * @throws DoctorBusy; the error of Redis
   */
  async run(repair: boolean): Promise<Diagnosis> {
    const at = Date.now();
    const startedAt = performance.now();
    if (!(await this.#redis.eval(LOCK, 1, this.#lock, this.#token, LOCK_MS))) throw new DoctorBusy();
    this.#damage = [];
    this.#repair = repair;
    try {
      const seen = { jobs: 0, payloads: 0 };
      await this.#types();
      // Commands for a hash fail on keys of another type.
      const readable = leftOver(this.#damage) === 'ok';
      let difference: number | undefined;
      if (readable) {
        const fields = await this.#fields();
        Object.assign(seen, await this.#jobs());
        await this.#depth();
        // The accounting is computed from the depth, so check it only if that is right.
        const isDepthRight = !this.#damage.some(({ kind, mended }) => kind === 'depth' && mended === 0);
        if (isDepthRight) difference = await this.#books(fields);
        await this.#disk();
      }
      return {
        at,
        tookMs: Math.round(performance.now() - startedAt),
        repair,
        ...seen,
        damage: this.#damage,
        ...(difference === undefined ? {} : { difference }),
      };
    } finally {
      if ((await this.#redis.get(this.#lock)) === this.#token) await this.#redis.del(this.#lock);
    }
  }

  #found(damage: Finding, names: readonly string[], mended = 0): void {
    this.#damage.push({ ...damage, count: names.length, examples: names.slice(0, EXAMPLES), mended });
  }

  /**
   * Executes acts, or checks whether they would be executed.
   * @returns per act 1, 0 if its finding no longer holds, -1 if that is unknown
   */
  async #act(acts: readonly Act[], mends = this.#repair): Promise<number[]> {
    const { depth, books, wake, prefix } = this.#store.keys;
    const results: number[] = [];
    for (let from = 0; from < acts.length; from += MEND_ACTS_MAX) {
      const some = acts.slice(from, from + MEND_ACTS_MAX);
      const answer = await this.#redis.nrdotMend(
        ...[depth, books, wake, this.#lock, prefix, this.#token, Date.now()],
        ...[JOB_OPTIONS, mends ? 1 : 0, JSON.stringify(some)],
      );
      results.push(...answer.slice(0, some.length).map(Number));
      for (const line of answer.slice(some.length)) this.#options.odd?.(String(line));
    }
    return results;
  }

  /** Reports findings that acts confirm, and repairs them if asked to. @param text for so many of them */
  async #treat(
    { kind, level, todo }: Omit<Finding, 'text'>,
    suspects: readonly Suspect[],
    text: (n: number) => string,
  ): Promise<void> {
    const some = suspects.slice(0, MENDED_MAX);
    const results = await this.#act(some.map(({ act }) => act));
    const so = some.filter((_, i) => results[i] === 1);
    const unseen = some.filter((_, i) => results[i] === -1);
    const names = [...so, ...unseen, ...suspects.slice(MENDED_MAX)].map(({ name }) => name);
    if (names.length === 0) return;
    const finding = { kind, level, text: text(names.length), ...(todo ? { todo } : {}) };
    this.#found(finding, names, this.#repair ? so.length : 0);
  }

  /** Keys whose wrong type would stop the scripts. */
  async #types(): Promise<void> {
    const { keys, redis } = this.#store;
    const expected = new Map([...countersOf(keys), keys.status].map((key) => [key, 'hash']));
    expected.set(keys.wake, 'zset').set(keys.outcomes, 'list').set(keys.booked, 'list');
    for (const queue of QUEUES)
      for (const [part, type] of Object.entries(PART_TYPES)) expected.set(keys.queue(queue, part), type);
    const types = (await redis.pipeline([...expected.keys()].map((key) => ['type', key])).exec()) ?? [];
    const wrong = [...expected].flatMap(([key, type], i): Suspect[] => {
      const is = String(types[i]?.[1]);
      if (is === 'none' || is === type) return [];
      return [{ name: `${key} is a ${is}`, act: { act: 'aside', key, type } }];
    });
    await this.#treat(
      { kind: 'wrong_type', level: 'fault' },
      wrong,
      (n) =>
        `${n === 1 ? 'A key is' : `${n} keys are`} of another type than the pipeline's scripts expect, which stops them. A repair renames the key (…:set-aside:…) and removes nothing; the rest is examined afterwards.`,
    );
  }

  /** Fields that are not numbers. @returns those of the accounting */
  async #fields(): Promise<string[]> {
    const { keys, redis } = this.#store;
    const texts: Record<string, RegExp> = { [keys.books]: /^epoch/, [keys.scheduler]: /^(weights|slot)$/ };
    for (const key of breakersOf(keys)) texts[key] = /^(state|reason|said)$/;
    const books: string[] = [];
    const wrong: Suspect[] = [];
    for (const key of countersOf(keys)) {
      if ((await redis.type(key)) !== 'hash') continue;
      for (const [field, value] of Object.entries(await redis.hgetall(key))) {
        if (texts[key]?.test(field) || (value.trim() !== '' && Number.isFinite(Number(value)))) continue;
        wrong.push({ name: `${key} ${field}`, act: { act: 'field', key, field } });
        if (key === keys.books) books.push(field);
      }
    }
    await this.#treat(
      { kind: 'no_number', level: 'warning' },
      wrong,
      (n) =>
        `${n === 1 ? 'A field is' : `${n} fields are`} not a number, so the services count from 0 there. A repair removes them, and the recount below corrects depth and accounting.`,
    );
    return books;
  }

  /** Jobs and payloads that do not match. @returns how many there are of each */
  async #jobs(): Promise<{ jobs: number; payloads: number }> {
    const first = await this.#count();
    if (!first) return { jobs: 0, payloads: 0 };
    const known = keysOf(first);
    const scanned = await this.#scan(known, idsOf(first));
    const suspects = first.jobs.filter(isSuspect);
    const seen = { jobs: first.jobs.length, payloads: scanned.payloads };
    if (suspects.length + scanned.lone.length + scanned.strays.length === 0) return seen;

    await wait(this.#options.recheckMs ?? RECHECK_MS);
    const second = await this.#count();
    if (!second) return seen;
    const again = new Map(second.jobs.filter(isSuspect).map((job) => [nameOf(job), job]));
    const still = suspects.flatMap((job) => again.get(nameOf(job)) ?? []);
    const act = ({ queue, id, part }: SeenJob, what: Act['act']): Suspect => ({
      name: `${queue} ${id} (${part})`,
      act: { act: what, queue, id },
    });
    await this.#treat(
      { kind: 'odd_job', level: 'warning' },
      still.filter(({ odd, part }) => odd && part !== 'failed').map((job) => act(job, 'odd')),
      (n) =>
        `${jobsText(n)} not part of the pipeline: the data is not what it expects. A repair moves such jobs to the failed set of their queue, as the services do when they find them.`,
    );
    const away = still.filter(({ odd, part }) => odd && part === 'failed');
    if (away.length > 0) {
      const text = `${jobsText(away.length)} not part of the pipeline, in failed sets, with the reason in failedReason. They have no payload.`;
      const todo = 'Look at them in the console (Queues), and remove them with BullMQ if nobody needs them.';
      const names = away.map(({ queue, id }) => `${queue} ${id}`);
      this.#found({ kind: 'put_away', level: 'note', text, todo }, names);
    }
    await this.#treat(
      { kind: 'job_without_payload', level: 'warning' },
      still.filter(({ odd, held }) => !odd && held === 0).map((job) => act(job, 'empty')),
      (n) =>
        `${jobsText(n)} without any payload: it was settled before, or somebody removed it. There is nothing to deliver; if the depth still counts them, that is shown below. A repair removes the jobs.`,
    );
    await this.#treat(
      {
        kind: 'job_out_of_sight',
        level: 'fault',
        todo: 'The remaining jobs have a payload of another type, or a class that is not that of their queue: inspect them with redis-cli.',
      },
      still.filter((job) => !job.odd && job.held > 0 && !flows(job)).map((job) => act(job, 'return')),
      (n) =>
        `${jobsText(n)} where no service looks for them (failed, prioritized, delayed or paused by hand), with payloads to deliver. A repair returns them to their queues.`,
    );
    await this.#treat(
      { kind: 'stray_job', level: 'fault' },
      scanned.strays.map(
        ({ queue, id }): Suspect => ({ name: `${queue} ${id}`, act: { act: 'stray', queue, id } }),
      ),
      (n) =>
        `${jobsText(n)} in no list of the queue: the id was removed by hand. A repair returns those with a payload to their queues, and removes those without.`,
    );
    await this.#lonePayloads(scanned.lone.filter((key) => !keysOf(second).has(key)));
    return seen;
  }

  /** Payloads without a job: creates new jobs for them. */
  async #lonePayloads(lone: readonly string[]): Promise<void> {
    const { keys, redis } = this.#store;
    const readable: Suspect[] = [];
    const unreadable: Suspect[] = [];
    for (const key of lone.slice(0, MENDED_MAX)) {
      // Another act may have restored its job.
      const payload = await redis.getBuffer(keys.payload(key)).catch(() => null);
      const data = payload && (await jobDataOfLone(key, payload, this.#options.maxBodyBytes, Date.now()));
      const one = { name: key, act: { act: 'payload', key, data: JSON.stringify(data ?? {}) } satisfies Act };
      (data ? readable : unreadable).push(one);
    }
    await this.#treat(
      {
        kind: 'payload_without_job',
        level: 'fault',
        todo: 'The rest could not be confirmed: exporters have more than 1,000 jobs, or more than 1,000 are being spilled. Run it again later.',
      },
      readable,
      (n) =>
        `${payloadsText(n)} to no job: acknowledged data that would never be delivered. A repair creates jobs for them, of the class normal, because their class is no longer known.`,
    );
    const acts = unreadable.map(({ act }) => act);
    const results = await this.#act(acts, false);
    const so = unreadable.filter((_, i) => results[i] !== 0).map(({ name }) => name);
    if (so.length === 0) return;
    const text = `${payloadsText(so.length)} to no job, and the bytes are not an OTLP request of one signal, so no job can be created for them. They stay where they are.`;
    const todo = `Save them with redis-cli (GET ${keys.payload('<key>')}), then DEL them; their items are then reported under "books".`;
    this.#found({ kind: 'unreadable_payload', level: 'fault', text, todo }, so);
  }

  /**
   * Scans all keys of the prefix, a thousand at a time.
   * @returns claimed payloads and hashes of jobs that are missing in the census, and the number of payloads
   */
  async #scan(
    known: ReadonlySet<string>,
    ids: ReadonlySet<string>,
  ): Promise<{ lone: string[]; strays: { queue: QueueName; id: string }[]; payloads: number }> {
    const { keys, redis } = this.#store;
    const primary = ((await primaryOf(redis, keys.prefix)) ?? redis) as Redis;
    const payload = keys.payload('');
    const pattern = `${keys.prefix.replace(/[\\*?[\]]/g, '\\$&')}:*`;
    const lone = new Set<string>();
    const strays = new Map<string, { queue: QueueName; id: string }>();
    let payloads = 0;
    let cursor = '0';
    do {
      const [next, found] = await primary.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT);
      cursor = next;
      const unknown = found.flatMap((key) => {
        if (key.startsWith(payload)) {
          payloads++;
          const name = key.slice(payload.length);
          return known.has(name) ? [] : [{ key, name }];
        }
        const [queue, id, ...rest] = key.slice(keys.prefix.length + 1).split(':');
        const isJob = QUEUES.includes(queue as QueueName) && id && rest.length === 0 && !RESERVED.has(id);
        if (isJob && !ids.has(`${queue} ${id}`) && lone.size + strays.size < JOBS_MAX)
          strays.set(key, { queue: queue as QueueName, id });
        return [];
      });
      if (unknown.length === 0) continue;
      const lives = (await redis.pipeline(unknown.map(({ key }) => ['ttl', key])).exec()) ?? [];
      // A payload with a TTL was never acknowledged: it expires.
      for (const [i, { name }] of unknown.entries())
        if (lives[i]?.[1] === -1 && lone.size < JOBS_MAX) lone.add(name);
    } while (cursor !== '0');
    return { lone: [...lone], strays: [...strays.values()], payloads };
  }

  /** The depth against the sum over the jobs: a field that differs equally in two checks is off. */
  async #depth(): Promise<void> {
    let before = await this.#census.count();
    for (let reads = 1; reads < COUNTS && before; reads++) {
      if (Object.keys(before.drift).length === 0) return;
      await wait((this.#options.recheckMs ?? RECHECK_MS) / 2);
      const now = await this.#census.count();
      if (now && JSON.stringify(sorted(now.drift)) === JSON.stringify(sorted(before.drift))) {
        const counts = Object.fromEntries(Object.entries(now.drift).map(([field, n]) => [field, -n]));
        await this.#treat(
          { kind: 'depth', level: 'warning' },
          [{ name: driftText(now.drift), act: { act: 'depth', counts } }],
          () =>
            `The depth is not what the jobs add up to: ${driftText(now.drift)}. Limits, spilling and the accounting depend on it. A repair corrects it by the difference, and then checks the accounting.`,
        );
        return;
      }
      before = now;
    }
    this.#notCounted();
  }

  async #count(): Promise<Counted | undefined> {
    const counted = await this.#census.count();
    if (!counted) this.#notCounted();
    return counted;
  }

  #notCounted(): void {
    if (this.#damage.some(({ kind }) => kind === 'not_examined')) return;
    const text = `The contents of Redis could not be recounted: there are more than ${JOBS_MAX} jobs, or they move faster than they can be read.`;
    const todo = 'Run it again when less data is waiting.';
    this.#found({ kind: 'not_examined', level: 'warning', text, todo }, ['jobs']);
  }

  /**
   * The accounting, from the dlq's reports of moments in which nothing of its own was in flight.
   * @param unknown fields that were not numbers: a difference is theirs
   */
  async #books(unknown: readonly string[]): Promise<number | undefined> {
    const difference = await this.#difference();
    if (difference === undefined) {
      const text =
        'The accounting could not be checked: items are moving, and no dlq has reported what it holds meanwhile.';
      const todo = 'Make sure that a dlq is running, or run it again when nothing moves.';
      this.#found({ kind: 'not_examined', level: 'warning', text, todo }, ['books']);
      return undefined;
    }
    if (difference === 0) return 0;
    const counts = correction(difference, unknown);
    const [field = '', items = 0] = Object.entries(counts)[0] ?? [];
    const fault = difference > 0 && field.startsWith('dropped:');
    await this.#treat(
      { kind: 'books', level: fault ? 'fault' : 'warning' },
      [{ name: `${field} +${items}`, act: { act: 'books', counts } }],
      () =>
        difference > 0
          ? fault
            ? `${items} accepted items are missing: neither delivered, nor in Redis, nor on disk. They are lost, or they were delivered and Redis lost that record. A repair accounts for them as dropped (unaccounted).`
            : `The accounting lacks ${items} items under "${field}", which was not a number. A repair adds them there.`
          : `The accounting has ${items} items more in total than were accepted: something was counted twice, for example after a crash, or "accepted" was changed. A repair adds them to the accepted items.`,
    );
    return this.#repair ? 0 : difference;
  }

  async #difference(): Promise<number | undefined> {
    const { keys, redis } = this.#store;
    let plain: number | undefined;
    let isSteady = true;
    for (let reads = 0; reads < ACCOUNTING_READS; reads++) {
      const { difference } = await this.#store.accounting();
      if (difference === 0) return 0;
      if (plain !== undefined && plain !== difference) isSteady = false;
      plain = difference;
      await wait((this.#options.recheckMs ?? RECHECK_MS) / ACCOUNTING_READS);
    }
    const settleMs = this.#options.accountingSettleMs ?? ACCOUNTING_SETTLE_MS;
    const deadline = performance.now() + BOOKS_WAIT_MS;
    const begin = (await redis.hget(keys.disk, 'at')) ?? '';
    let same: { value: number; since: number } | undefined;
    while (performance.now() < deadline) {
      await this.#redis.pexpire(this.#lock, LOCK_MS);
      const { at = '', difference: text = '' } = await redis.hgetall(keys.disk);
      if (at !== begin && text !== '') {
        const value = numberField(text);
        if (value === 0) return 0;
        if (same?.value !== value) same = { value, since: numberField(at) };
        else if (numberField(at) - same.since >= settleMs) return value;
      } else if (at === begin && performance.now() > deadline - BOOKS_WAIT_MS + settleMs) {
        // Without reports of a dlq, a difference is certain only while nothing moves.
        const { difference } = await this.#store.accounting();
        return isSteady && difference === plain ? plain : undefined;
      }
      await wait(200);
    }
    return undefined;
  }

  /** The dlq's status against its last report to the accounting. */
  async #disk(): Promise<void> {
    const { keys, redis } = this.#store;
    const statuses = await this.#store.statuses();
    const runs = statuses.some(({ status }) => (status as { services?: { dlq?: unknown } }).services?.dlq);
    const told = await redis.hgetall(keys.disk);
    const waiting = numberField(told.waiting);
    if (runs || waiting + numberField(told.rejected) === 0) return;
    const text = `The dlq last reported ${waiting} items on its disk; none is running now to confirm it.`;
    this.#found({ kind: 'disk', level: 'warning', text, todo: 'Start the dlq.' }, ['no dlq']);
  }
}

const PART_TYPES = {
  wait: 'list',
  active: 'list',
  delayed: 'zset',
  failed: 'zset',
  marker: 'zset',
  meta: 'hash',
};

/** Keys of a BullMQ queue that are not jobs. */
const RESERVED = new Set([
  ...[...LISTS, ...SETS],
  ...['meta', 'marker', 'id', 'pc', 'events', 'stalled', 'stalled-check'],
  ...['limiter', 'repeat', 'de', 'metrics', 'wait-children'],
]);

/** Hashes whose fields are numbers, with exceptions. */
function countersOf(keys: Keys): string[] {
  return [keys.depth, keys.books, keys.scheduler, keys.signals, ...breakersOf(keys), keys.disk];
}

function breakersOf(keys: Keys): string[] {
  return (Object.keys(SIGNALS) as Signal[]).map((signal) => keys.breaker(signal));
}

function isSuspect(job: SeenJob): boolean {
  return !job.locked && (job.odd !== undefined || job.held === 0 || !flows(job));
}

function nameOf({ queue, part, id }: SeenJob): string {
  return `${queue} ${part} ${id}`;
}

function keysOf({ jobs }: Counted): Set<string> {
  return new Set(jobs.flatMap(({ keys }) => keys));
}

function idsOf({ jobs }: Counted): Set<string> {
  return new Set(jobs.map(({ queue, id }) => `${queue} ${id}`));
}

function sorted(drift: Record<string, number>): [string, number][] {
  return Object.entries(drift).sort(([a], [b]) => (a < b ? -1 : 1));
}

function payloadsText(n: number): string {
  return n === 1 ? 'A payload belongs' : `${n} payloads belong`;
}

function jobsText(n: number): string {
  return n === 1 ? 'A job is' : `${n} jobs are`;
}

/** Corrects the accounting: a field that was not a number gets the difference. */
function correction(difference: number, unknown: readonly string[]): Record<string, number> {
  if (difference < 0) return { accepted: -difference };
  const field = unknown.find((name) => name === 'delivered' || name.startsWith('dropped:'));
  return { [field ?? 'dropped:unaccounted']: difference };
}
