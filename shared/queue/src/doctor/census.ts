import { type Keys, QUEUES, type QueueName } from '../keys.ts';
import { numberField } from '../number-field.ts';

/** Lists and sorted sets of a BullMQ queue in which a job may be. */
export const LISTS = ['wait', 'active', 'paused'] as const;
/** Of a class queue: what was set aside for other signals to pass. */
const ASIDES = ['aside:traces', 'aside:metrics', 'aside:logs', 'aside:profiles'] as const;
export const SETS = ['delayed', 'prioritized', 'failed', 'completed', 'waiting-children'] as const;
export type Part = (typeof LISTS)[number] | (typeof ASIDES)[number] | (typeof SETS)[number];

export interface Place {
  queue: QueueName;
  part: Part;
}

/** A job as a look saw it. */
export interface SeenJob extends Place {
  id: string;
  /** What is odd about it: it is none of the pipeline's. */
  odd?: string;
  /** Depth field without its unit. */
  stage: string;
  /** Batches in all, and of those that Redis still holds: their number, items, bytes and keys. */
  batches: number;
  held: number;
  items: number;
  bytes: number;
  keys: string[];
  locked: boolean;
}

/** What Redis held at one moment. */
export interface Counted {
  jobs: SeenJob[];
  /** The depth as it stands in Redis less what the jobs add up to, by field; only fields that differ. */
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

/** One part of the look's answer. */
type Reply = [depth: string[], ...parts: [length: number, ...jobs: (string | number)[][]][]];
export type TakeSnapshot = (args: (string | number)[]) => Promise<Reply>;

/** A list of so many jobs is read as part of the last look; a longer one before it, but for its ends. */
const SHORT = 60;
const SHORT_ROOM = 200;
const SLICE = 500;
const HEAD = 300;
const TAIL = 16;
const TRIES = 8;
const NOTHING = { from: 1, to: 0 };

/** The parts through which batches flow; jobs anywhere else are out of the services' sight. */
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
 * Counts what Redis holds, exactly, while batches flow. Long lists are read in slices from their newest end; what is in the middle
 * stays where it is until it comes to the other end. The last look reads, in one step, the depth, all short lists and both
 * ends of the long ones: so what it saw is of one moment.
 */
export class Census {
  readonly #keys: Keys;
  readonly #takeSnapshot: TakeSnapshot;
  readonly #lengths: (places: readonly Place[]) => Promise<number[]>;
  readonly #jobsMax: number;

  constructor(
    keys: Keys,
    takeSnapshot: TakeSnapshot,
    lengths: (places: readonly Place[]) => Promise<number[]>,
    jobsMax: number,
  ) {
    this.#keys = keys;
    this.#takeSnapshot = takeSnapshot;
    this.#lengths = lengths;
    this.#jobsMax = jobsMax;
  }

  /** @returns undefined when there is too much to read, or it moved too fast to be counted */
  async count(): Promise<Counted | undefined> {
    for (let tries = 0; tries < TRIES; tries++) {
      const lengths = await this.#lengths(EVERYWHERE);
      if (lengths.reduce((sum, n) => sum + Math.max(0, n), 0) > this.#jobsMax) return undefined;
      const counted = await this.#tryOnce(lengths);
      if (counted) return counted;
    }
    return undefined;
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
        // Of a set only how many there are: it has no ends to come in by.
        { ...place, ...(isList(place) ? { from: 0, to: HEAD - 1 } : NOTHING) },
        { ...place, ...(isList(place) ? { from: -TAIL, to: -1 } : NOTHING) },
      ]),
    ]);
    const jobs: SeenJob[] = [];
    for (const [i] of short.entries()) {
      const { length, jobs: found } = snapshot.parts[i]!;
      if (found.length < length) return undefined; // it has grown, or the look's bounds were met
      jobs.push(...found);
    }
    for (const [i, place] of long.entries()) {
      const [head, tail] = [snapshot.parts[short.length + 2 * i]!, snapshot.parts[short.length + 2 * i + 1]!];
      const known = read.get(place)!;
      const whole = isList(place) ? joined(head, known, tail.jobs) : known;
      if (whole?.length !== head.length) return undefined;
      jobs.push(...whole);
    }
    return { jobs, drift: driftOf(snapshot.depth, jobs) };
  }

  /** A long list or set as it was while it was read, newest first. */
  async #slices(place: Place): Promise<SeenJob[]> {
    const jobs: SeenJob[] = [];
    const seen = new Set<string>();
    for (let from = 0; jobs.length <= this.#jobsMax; ) {
      const { jobs: found } = (await this.#read([{ ...place, from, to: from + SLICE - 1 }])).parts[0]!;
      if (found.length === 0) break;
      from += found.length;
      for (const job of found) {
        if (seen.has(job.id)) continue; // pushed back by newer ones
        seen.add(job.id);
        jobs.push(job);
      }
    }
    // What came while the rest was read.
    while (isList(place)) {
      const { jobs: found } = (await this.#read([{ ...place, from: 0, to: SLICE - 1 }])).parts[0]!;
      const news = found.filter(({ id }) => !seen.has(id));
      for (const { id } of news) seen.add(id);
      jobs.unshift(...news);
      if (news.length < HEAD / 2) break;
      if (news.length === found.length) break; // faster than it can be read
    }
    return jobs;
  }

  async #read(slices: readonly Slice[]): Promise<Snapshot> {
    const args = slices.flatMap(({ queue, part, from, to }) => [queue, part, from, to]);
    const [flat, ...parts] = await this.#takeSnapshot([this.#keys.prefix, ...args]);
    const depth: Record<string, string> = {};
    for (let i = 0; i + 1 < flat.length; i += 2) depth[flat[i]!] = flat[i + 1]!;
    return {
      depth,
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

function seenJob({ queue, part }: Place, reply: (string | number)[]): SeenJob {
  const [id, odd, stage = '', batches = 0, held = 0, items = 0, bytes = 0, locked = 0, ...keys] = reply;
  return {
    queue,
    part,
    id: String(id),
    ...(odd ? { odd: String(odd) } : {}),
    stage: String(stage),
    batches: Number(batches),
    held: Number(held),
    items: Number(items),
    bytes: Number(bytes),
    locked: locked === 1,
    keys: keys.map(String),
  };
}

/**
 * A list from the looks at its two ends and what is known of its middle, all newest first. What is known may all be gone: a list that
 * flows that fast is seen whole from its newest end.
 * @returns undefined when they do not meet
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

/** What the depth has beyond what the jobs add up to. */
export function driftOf(depth: Record<string, string>, jobs: readonly SeenJob[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [field, text] of Object.entries(depth)) counts[field] = numberField(text);
  const add = (field: string, n: number) => {
    counts[field] = (counts[field] ?? 0) - n;
  };
  for (const { stage, held, items, bytes } of jobs) {
    if (held === 0) continue;
    for (const name of [stage, 'total']) {
      add(`${name}:batches`, held);
      add(`${name}:items`, items);
      add(`${name}:bytes`, bytes);
    }
  }
  return Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== 0));
}

/** Where the depth is off, in words: the stages and classes, with the items. */
export function driftText(drift: Record<string, number>): string {
  const off = Object.entries(drift).filter(([field]) => !field.startsWith('total:'));
  const named = (off.length > 0 ? off : Object.entries(drift)).map(
    ([field, n]) => `${field} ${n > 0 ? '+' : ''}${n}`,
  );
  return named.slice(0, 6).join(', ') + (named.length > 6 ? `, and ${named.length - 6} more` : '');
}
