/**
 * A process that counts and reports, as SDKs do: series come and go, report seldom, begin with their process or with themselves;
 * a collection may be split over requests; the process restarts and counts from 0. All from a seed. Numbers are whole, or
 * quarters, so that sums are exact whoever adds them.
 */
import { seededRandom } from '../identity.ts';
import { metricsRequest, type SeriesKind, type SeriesPoint, type SeriesValue } from './request.ts';

export interface ProducerOptions {
  seed: number;
  /** Of the process; the same after a restart. */
  name: string;
  /** Series of each kind that are there at a time. */
  series: number;
  kinds: readonly SeriesKind[];
  /** Before the names of its metrics, so that runs differ. */
  prefix?: string;
  /** Series carry the start of the process, and not their own. */
  startsWithProcess?: boolean;
  /** Now and then a number is NaN or infinite, and sound again the next time. */
  extremes?: boolean;
}

/** The label whose values never end, and one whose do. */
export const ENDLESS_LABEL = 'user.id';
export const KEPT_LABEL = 'route';

const ROUTES = ['/cart', '/pay'];
/** Collections between two reports of a series: 1 for most. */
const PERIODS = [1, 1, 1, 2, 5];
const COMES_AND_GOES = 0.08;
const SPLITS_MAX = 4;
const EXTREME = 0.03;
const EXTREMES = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const OBSERVED = [0, 1, 2, 3, 5, 9, 40, 1_000];

interface Series {
  kind: SeriesKind;
  labels: Record<string, string>;
  start: bigint;
  period: number;
  value: number;
  observed: Map<number, number>;
  /** When it reported last: a delta begins there. */
  reportedAt: bigint;
}

export class MetricProducer {
  readonly #options: ProducerOptions;
  readonly #random: () => number;
  #series: Series[] = [];
  /** Levels that have ended, which is said with the next collection. */
  #gone: Series[] = [];
  #start: bigint;
  #lastTime: bigint;
  #made = 0;
  #collections = 0;

  constructor(options: ProducerOptions, nowMs: number) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#start = this.#lastTime = nanoseconds(nowMs);
    this.#fillUp();
  }

  /** The process ends without a word, and another takes its place: the same streams, from 0. */
  restart(nowMs: number): void {
    this.#start = this.#tick(nowMs);
    this.#made = 0;
    this.#series = [];
    this.#gone = [];
    this.#fillUp();
  }

  /** What happened since the last time, as requests. They may go to different receivers, in this order. */
  collect(nowMs: number): Buffer[] {
    return this.#report(nowMs, ({ period }) => this.#collections % period === 0);
  }

  /** Everything that was counted and not yet said. */
  finish(nowMs: number): Buffer[] {
    return this.#report(nowMs, () => true);
  }

  #report(nowMs: number, isDue: (series: Series) => boolean): Buffer[] {
    const time = this.#tick(nowMs);
    this.#collections += 1;
    const points = this.#gone.map((series) => this.#point(series, time, 'stale'));
    this.#gone = [];
    for (const series of this.#series) {
      this.#count(series);
      const goes = this.#random() < COMES_AND_GOES;
      // What it has counted is said before it goes.
      if (isDue(series) || goes) points.push(this.#point(series, time));
      if (!goes) continue;
      this.#series = this.#series.filter((other) => other !== series);
      if (series.kind === 'level') this.#gone.push(series);
    }
    this.#fillUp();
    return this.#split(points);
  }

  /** Time that never stands still. */
  #tick(nowMs: number): bigint {
    const time = nanoseconds(nowMs);
    this.#lastTime = time > this.#lastTime + 1n ? time : this.#lastTime + 2n;
    return this.#lastTime;
  }

  #fillUp(): void {
    const { kinds, series, name, startsWithProcess } = this.#options;
    for (const kind of kinds)
      while (this.#series.filter((each) => each.kind === kind).length < series)
        this.#series.push({
          kind,
          labels: { [ENDLESS_LABEL]: `${name}-${this.#made++}`, [KEPT_LABEL]: this.#of(ROUTES) },
          start: startsWithProcess ? this.#start : this.#lastTime,
          period: this.#of(PERIODS),
          value: 0,
          observed: new Map(),
          reportedAt: this.#lastTime,
        });
  }

  #count(series: Series): void {
    const { kind, observed } = series;
    if (kind === 'gauge' || kind === 'level') series.value = Math.floor(this.#random() * 100);
    else if (kind === 'double counter') series.value += Math.floor(this.#random() * 40) / 4;
    else series.value += Math.floor(this.#random() * 10);
    if (!kind.includes('histogram')) return;
    for (let n = Math.floor(this.#random() * 3); n >= 0; n -= 1) {
      const value = this.#of(OBSERVED);
      observed.set(value, (observed.get(value) ?? 0) + 1 + Math.floor(this.#random() * 3));
    }
  }

  #point(series: Series, time: bigint, instead?: SeriesValue): SeriesPoint {
    const { kind, labels } = series;
    const isDelta = kind.startsWith('delta');
    const value = instead ?? this.#valueOf(series);
    const start = isDelta ? series.reportedAt : series.start;
    series.reportedAt = time;
    if (isDelta) {
      series.value = 0;
      series.observed = new Map();
    }
    const name = `${this.#options.prefix ?? ''}${kind.replaceAll(' ', '.')}`;
    return { name, kind, labels, start, time, value };
  }

  #valueOf({ kind, value, observed }: Series): SeriesValue {
    if (kind.includes('histogram')) return new Map(observed);
    const isExtreme = this.#options.extremes && kind === 'double counter' && this.#random() < EXTREME;
    return isExtreme ? this.#of(EXTREMES) : value;
  }

  #split(points: readonly SeriesPoint[]): Buffer[] {
    if (points.length === 0) return [];
    const parts = 1 + Math.floor(this.#random() * SPLITS_MAX);
    const size = Math.ceil(points.length / parts);
    const resource = { 'service.name': 'shop', 'service.instance.id': this.#options.name };
    return Array.from({ length: Math.ceil(points.length / size) }, (_, n) =>
      metricsRequest(resource, points.slice(n * size, (n + 1) * size)),
    );
  }

  #of<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.floor(ms)) * 1_000_000n;
}
