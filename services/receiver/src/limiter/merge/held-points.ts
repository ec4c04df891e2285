import { StreamIndex } from './stream-index.ts';

/** A merged point that has not gone out yet. */
export interface HeldPoint {
  /** A request with this one point: several in a row are a request again. */
  bytes: Buffer;
  /** Where the point lies in there, without its tag. */
  start: number;
  end: number;
  /** Points that it is the outcome of. */
  parts: number;
}

/** Bytes that are held before what is held goes out early. What one request adds may exceed it. */
const BYTES_MAX = 4 * 1024 * 1024;
/** The same for sources of gauges, which are counted meanwhile: 12 bytes each, and as much for room. */
const GAUGES_MAX = 65_536;

/** What is held since something went out last. */
class Interval {
  readonly points = new Map<string, HeldPoint>();
  readonly gauges = new StreamIndex();
  bytes = 0;
  /** Of its first point. */
  sinceMs = 0;
}

/** What a request has changed. */
export interface HeldChanges {
  /** In which it came. */
  readonly interval: Interval;
  /** It has taken all points along. */
  sent: boolean;
  /** Points as they were before it. */
  readonly points: Map<string, HeldPoint | undefined>;
  /** Sources of gauges that it counted, low and high in turn. */
  readonly gauges: number[];
}

/**
 * Merged points that wait until their interval is over, one per stream. They lie in Redis as well, from the step on that makes
 * durable what they are made of; whoever takes this writer's place sends them. Like all that requests change it can be undone.
 */
export class HeldPoints {
  #interval = new Interval();
  /** Of the request at hand. */
  #changes = changesOf(this.#interval);

  get size(): number {
    return this.#interval.points.size;
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  /** Whether it is time that what is held goes out. */
  isDue(nowMs: number, intervalMs: number): boolean {
    if (this.isEmpty) return false;
    const { sinceMs, bytes, gauges } = this.#interval;
    return nowMs - sinceMs >= intervalMs || bytes >= BYTES_MAX || gauges.used >= GAUGES_MAX;
  }

  get isHurried(): boolean {
    return !this.isEmpty && this.#interval.sinceMs === Number.NEGATIVE_INFINITY;
  }

  /** What is held goes out with the next request. */
  hurry(): void {
    this.#interval.sinceMs = Number.NEGATIVE_INFINITY;
  }

  /** Begins a request. @returns what it will have changed */
  begin(): HeldChanges {
    this.#changes = changesOf(this.#interval);
    return this.#changes;
  }

  get(key: string): HeldPoint | undefined {
    return this.#interval.points.get(key);
  }

  set(key: string, point: HeldPoint, nowMs: number): void {
    const interval = this.#interval;
    if (this.isEmpty) interval.sinceMs = nowMs;
    const before = interval.points.get(key);
    if (!this.#changes.points.has(key)) this.#changes.points.set(key, before);
    interval.points.set(key, point);
    interval.bytes += point.bytes.length - (before?.bytes.length ?? 0);
  }

  /** How many points of a gauge's source came before this one in the interval. */
  countGauge(lo: number, hi: number): number {
    this.#changes.gauges.push(lo, hi);
    return this.#interval.gauges.count(lo, hi);
  }

  /** Takes out all points, in the order in which their streams came, but for those of these streams. */
  takeOthers(keys: ReadonlySet<string>): Buffer[] {
    const interval = this.#interval;
    this.#changes.sent = true;
    this.#interval = new Interval();
    return [...interval.points].filter(([key]) => !keys.has(key)).map(([, { bytes }]) => bytes);
  }

  /** The points that the request at hand has changed: field and value, in turn. */
  claims(): Buffer[] {
    if (this.#changes.points.size === 0) return [];
    const { points } = this.#interval;
    return [...this.#changes.points.keys()].flatMap((key) => [
      Buffer.from(key, 'latin1'),
      points.get(key)!.bytes,
    ]);
  }

  undo({ interval, points, gauges }: HeldChanges): void {
    this.#interval = interval;
    for (const [key, before] of points) {
      const { bytes } = interval.points.get(key)!;
      if (before) interval.points.set(key, before);
      else interval.points.delete(key);
      interval.bytes += (before?.bytes.length ?? 0) - bytes.length;
    }
    for (let i = 0; i < gauges.length; i += 2) interval.gauges.uncount(gauges[i]!, gauges[i + 1]!);
  }

  /** What was held is with another writer now. Only while no request is open. */
  forget(): void {
    this.#interval = new Interval();
  }
}

function changesOf(interval: Interval): HeldChanges {
  return { interval, sent: false, points: new Map(), gauges: [] };
}
