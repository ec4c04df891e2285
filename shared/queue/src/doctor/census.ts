import { pairsOf, type RedisConnection } from '@nrdot/redis';
import { type Keys, QUEUES, type QueueName } from '../keys.ts';
import { numberField } from '../number-field.ts';

/** Lists and sorted sets of a BullMQ queue in which a job may be. */
export const LISTS = ['wait', 'active', 'paused'] as const;
/** Lists of a class queue with the jobs that were set aside so that other signals pass. */
const ASIDES = ['aside:traces', 'aside:metrics', 'aside:logs', 'aside:profiles'] as const;
export const SETS = ['delayed', 'prioritized', 'failed', 'completed', 'waiting-children'] as const;
export type Part = (typeof LISTS)[number] | (typeof ASIDES)[number] | (typeof SETS)[number];

export interface Place {
  queue: QueueName;
  part: Part;
}

export interface SeenJob extends Place {
  id: string;
  /** Set for a job that is not the pipeline's: what is odd about it. */
  odd?: string;
  /** Depth field without its unit. */
  stage: string;
  /** Number, items, bytes and keys of its batches that Redis still holds. */
  held: number;
  items: number;
  bytes: number;
  keys: string[];
  locked: boolean;
}

/** A consistent count of what Redis holds. */
export interface Counted {
  jobs: SeenJob[];
  /** The stored depth minus the sum over the jobs, by field; only fields that differ. */
  drift: Record<string, number>;
}

interface Snapshot {
  depth: Record<string, string>;
  parts: { length: number; jobs: SeenJob[] }[];
}

interface Slice extends Place {
  from: number;
  to: number;
}

type JobReply = [
  ...[
    id: string,
    odd: string,
    stage?: string,
    batches?: number,
    held?: number,
    items?: number,
    bytes?: number,
  ],
  ...[locked?: number, ...keys: string[]],
];
type Reply = [depth: string[], ...parts: [length: number, ...jobs: JobReply[]][]];
export type TakeSnapshot = (...args: (string | number)[]) => Promise<Reply>;

/** Lists of up to so many jobs are read in the final snapshot; longer ones before it, except for their ends. */
const SHORT = 60;
const SHORT_ROOM = 200;
const SLICE = 500;
const HEAD = 300;
const TAIL = 16;
const TRIES = 8;
const NOTHING = { from: 1, to: 0 };

/** The lists through which batches flow; services do not look for jobs anywhere else. */
export function flows({ queue, part }: Place): boolean {
  if (part === 'wait' || isAside(part)) return true;
  return (queue === 'export' || queue === 'spill') && (part === 'active' || part === 'delayed');
}

const EVERYWHERE: readonly Place[] = QUEUES.flatMap((queue) =>
  [...LISTS, ...(queue === 'export' || queue === 'spill' ? [] : ASIDES), ...SETS].map((part) => ({
    queue,
    part,
  })),
);

/**
 * Counts exactly what Redis holds while batches flow. Long lists are read in slices from their newest end: jobs in the middle
 * stay until they reach the other end. A final snapshot reads the depth, all short lists and both ends of the long ones in one
 * step, so that the count is consistent.
 */
export class Census {
  readonly #redis: RedisConnection;
  readonly #keys: Keys;
  readonly #takeSnapshot: TakeSnapshot;
  readonly #jobsMax: number;

  constructor(redis: RedisConnection, keys: Keys, takeSnapshot: TakeSnapshot, jobsMax: number) {
    this.#redis = redis;
    this.#keys = keys;
    this.#takeSnapshot = takeSnapshot;
    this.#jobsMax = jobsMax;
  }

  /** @returns undefined if there is too much to read, or it moves too fast to be counted */
  async count(): Promise<Counted | undefined> {
    for (let tries = 0; tries < TRIES; tries++) {
      const lengths = await this.#lengths();
      if (lengths.reduce((sum, n) => sum + Math.max(0, n), 0) > this.#jobsMax) return undefined;
      const counted = await this.#tryOnce(lengths);
      if (counted) return counted;
    }
    return undefined;
  }

  /** Of the lists and sets everywhere; -1 for a key of another type. */
  async #lengths(): Promise<number[]> {
    const commands = EVERYWHERE.map((place) => [
      isList(place) ? 'llen' : 'zcard',
      this.#keys.queue(place.queue, place.part),
    ]);
    const lengths = (await this.#redis.pipeline(commands).exec()) ?? [];
    return lengths.map(([error, length]) => (error ? -1 : Number(length)));
  }

  async #tryOnce(lengths: readonly number[]): Promise<Counted | undefined> {
    const places = EVERYWHERE.map((place, i) => ({ ...place, length: lengths[i]! })).filter(
      (place) => place.length > 0 || flows(place),
    );
    const long = places.filter(({ length }) => length > SHORT);
    const short = places.filter(({ length }) => length <= SHORT);
    const read = new Map<Place, SeenJob[]>();
    for (const place of long) read.set(place, await this.#slices(place));

    const snapshot = await this.#read([
      ...short.map((place) => ({ ...place, from: 0, to: SHORT_ROOM - 1 })),
      ...long.flatMap((place) => [
        // Of a set read only the size: its members do not move through its ends.
        { ...place, ...(isList(place) ? { from: 0, to: HEAD - 1 } : NOTHING) },
        { ...place, ...(isList(place) ? { from: -TAIL, to: -1 } : NOTHING) },
      ]),
    ]);
    const jobs: SeenJob[] = [];
    const next = () => snapshot.parts.shift()!;
    for (const { length, jobs: found } of snapshot.parts.splice(0, short.length)) {
      if (found.length < length) return undefined; // it has grown, or the snapshot has hit its limits
      jobs.push(...found);
    }
    for (const [place, known] of read) {
      const [head, tail] = [next(), next()];
      const whole = isList(place) ? joined(head, known, tail.jobs) : known;
      if (whole?.length !== head.length) return undefined;
      jobs.push(...whole);
    }
    return { jobs, drift: driftOf(snapshot.depth, jobs) };
  }

  /** A long list or set as of the time of reading, newest first. */
  async #slices(place: Place): Promise<SeenJob[]> {
    const jobs: SeenJob[] = [];
    const seen = new Set<string>();
    const slice = async (from: number) => {
      const { parts } = await this.#read([{ ...place, from, to: from + SLICE - 1 }]);
      const found = parts[0]!.jobs;
      const news = found.filter(({ id }) => !seen.has(id) && seen.add(id)); // the others were pushed back by newer ones
      return { found, news };
    };
    for (let from = 0; jobs.length <= this.#jobsMax; ) {
      const { found, news } = await slice(from);
      if (found.length === 0) break;
      from += found.length;
      jobs.push(...news);
    }
    // Jobs that were added while the rest was read.
    while (isList(place)) {
      const { found, news } = await slice(0);
      jobs.unshift(...news);
      if (news.length < HEAD / 2) break;
      if (news.length === found.length) break; // grows faster than it can be read
    }
    return jobs;
  }

  async #read(slices: readonly Slice[]): Promise<Snapshot> {
    const args = slices.flatMap(({ queue, part, from, to }) => [queue, part, from, to]);
    const [flat, ...parts] = await this.#takeSnapshot(this.#keys.prefix, ...args);
    return {
      depth: Object.fromEntries(pairsOf(flat)),
      parts: parts.map(([length, ...jobs], i) => ({
        length,
        jobs: jobs.map((job) => seenJob(slices[i]!, job)),
      })),
    };
  }
}

function isList({ part }: Place): boolean {
  return (LISTS as readonly string[]).includes(part) || isAside(part);
}

function isAside(part: Part): boolean {
  return (ASIDES as readonly string[]).includes(part);
}

function seenJob({ queue, part }: Place, reply: JobReply): SeenJob {
  const [id, odd, stage = '', , held = 0, items = 0, bytes = 0, locked = 0, ...keys] = reply;
  const known = { queue, part, id, stage, held, items, bytes, keys, locked: locked === 1 };
  return odd ? { ...known, odd } : known;
}

/**
 * Joins snapshots of a list's two ends with what was read of its middle, all newest first. The middle may be gone completely: a
 * list that flows that fast is read whole from its newest end.
 * @returns undefined if they do not meet
 */
export function joined(
  { length, jobs: head }: { length: number; jobs: SeenJob[] },
  known: readonly SeenJob[],
  tail: readonly SeenJob[],
): SeenJob[] | undefined {
  if (head.length === length) return head;
  const at = new Map(known.map(({ id }, i) => [id, i]));
  const headEnds = head.findIndex(({ id }) => at.has(id));
  const tailBegins = tail.findLastIndex(({ id }) => at.has(id));
  if (headEnds < 0 || tailBegins < 0) return undefined;
  const [from, to] = [at.get(head[headEnds]!.id)!, at.get(tail[tailBegins]!.id)!];
  return [...head.slice(0, headEnds), ...known.slice(from, to + 1), ...tail.slice(tailBegins + 1)];
}

export function driftOf(depth: Record<string, string>, jobs: readonly SeenJob[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [field, text] of Object.entries(depth)) counts[field] = numberField(text);
  for (const { stage, held, items, bytes } of jobs)
    for (const [unit, n] of Object.entries({ batches: held, items, bytes }))
      for (const field of held > 0 ? [`${stage}:${unit}`, `total:${unit}`] : [])
        counts[field] = (counts[field] ?? 0) - n;
  return Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== 0));
}

/** Where the depth is off, for people: stages and classes, with the items. */
export function driftText(drift: Record<string, number>): string {
  const off = Object.entries(drift).filter(([field]) => !field.startsWith('total:'));
  const named = (off.length > 0 ? off : Object.entries(drift)).map(
    ([field, n]) => `${field} ${n > 0 ? '+' : ''}${n}`,
  );
  return named.slice(0, 6).join(', ') + (named.length > 6 ? `, and ${named.length - 6} more` : '');
}
