import { StreamIndex } from './stream-index.ts';

/** A merged point that is deferred. */
export interface HeldPoint {
  /** A request with only this point: several of them concatenate into a request. */
  bytes: Buffer;
  /** Range of the point in it, without its tag. */
  start: number;
  end: number;
  /** Number of points that were merged into it. */
  parts: number;
}

/** Maximum bytes deferred; above it points are sent early. A single request may exceed it. */
const BYTES_MAX = 4 * 1024 * 1024;
/** The same for sources of gauges that are counted meanwhile: 12 bytes each, and as much for free slots. */
const GAUGES_MAX = 65_536;

/** What was deferred since points were last sent. */
class Interval {
  readonly points = new Map<string, HeldPoint>();
  readonly gauges = new StreamIndex();
  bytes = 0;
  /** Time of its first point. */
  sinceMs = 0;
}

/** Changes by one request. */
export interface HeldChanges {
  /** The interval in which it came. */
  readonly interval: Interval;
  /** It has sent all points. */
  sent: boolean;
  /** Points as they were before. */
  readonly points: Map<string, HeldPoint | undefined>;
  /** Sources of gauges that it counted, low and high in turn. */
  readonly gauges: number[];
}

/**
 * Merged points that are deferred until their interval ends, one per stream. The step that makes their sources durable stores
 * them in Redis too, where the next holder of this writer's slot finds and sends them. Changes can be undone, like all changes
 * of requests.
 */
export class HeldPoints {
  #interval = new Interval();
  /** Changes by the current request. */
  #changes = changesOf(this.#interval);

  get size(): number {
    return this.#interval.points.size;
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  /** Whether the deferred points are due. */
  isDue(nowMs: number, intervalMs: number): boolean {
    if (this.isEmpty) return false;
    const { sinceMs, bytes, gauges } = this.#interval;
    return nowMs - sinceMs >= intervalMs || bytes >= BYTES_MAX || gauges.used >= GAUGES_MAX;
  }

  /** They are sent with the next request; Redis may not have them. */
  get isHurried(): boolean {
    return !this.isEmpty && this.#interval.sinceMs === Number.NEGATIVE_INFINITY;
  }

  /** Makes the deferred points be sent with the next request, because Redis has lost its data or the receiver stops. */
  hurry(): void {
    this.#interval.sinceMs = Number.NEGATIVE_INFINITY;
  }

  /** Begins a request. @returns its changes, still empty */
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

  /** Takes all points in order of their streams' appearance, except those of these streams. */
  takeOthers(keys: ReadonlySet<string>): Buffer[] {
    const interval = this.#interval;
    this.#changes.sent = true;
    this.#interval = new Interval();
    return [...interval.points].filter(([key]) => !keys.has(key)).map(([, { bytes }]) => bytes);
  }

  /** Points changed by the current request: field and value, in turn. */
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

  /** Forgets the points, which another receiver will find in Redis and send. Only while no request is open. */
  forget(): void {
    this.#interval = new Interval();
  }
}

function changesOf(interval: Interval): HeldChanges {
  return { interval, sent: false, points: new Map(), gauges: [] };
}
