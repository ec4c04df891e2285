import { DAILY_OTHERS, type DailyCounts, type DailyState } from '@nrdot/key-budget';
import { type DailyStatus, NAME_MAX, TOP_DAILY } from '@nrdot/status';
import { oneRun } from '@nrdot/telemetry';
import { DailyForecast } from './daily-forecast.ts';
import { type CardinalityLimiter, type Metric, packed } from './limiter/index.ts';

const EVERY_MS = 5_000;
/** Share of its budget above which receivers need to know the series of a metric. */
const KNOWN_FROM = 0.5;
/** With so many unreported series report at once, or a used-up budget would be noticed too late. */
const MANY = 2_048;

/**
 * Reports to Redis which series of the day this receiver has seen, and reads how many all receivers have. Runs every 5 s;
 * requests do not wait for it.
 */
export class DailyBudget {
  readonly #state: Pick<DailyState, 'count'>;
  readonly #limiter: () => CardinalityLimiter | undefined;
  readonly #now: () => number;
  readonly #failed: (error: Error) => void;
  readonly #forecast = new DailyForecast();
  #timer: NodeJS.Timeout | undefined;
  /** Redis refused the last report: retry every 5 s, not after every request. */
  #isRefused = false;
  #last: { day: string; counts: DailyCounts } | undefined;

  constructor(
    state: Pick<DailyState, 'count'>,
    limiter: () => CardinalityLimiter | undefined,
    now: () => number,
    failed: (error: Error) => void,
  ) {
    this.#state = state;
    this.#limiter = limiter;
    this.#now = now;
    this.#failed = failed;
  }

  /** To be called when `limiter.daily_keys` may have changed: without counting there is no timer. */
  follow(isCounted: boolean): void {
    if (isCounted) this.#timer ??= setInterval(() => void this.tell(), EVERY_MS).unref();
    else this.#end();
  }

  get isCounting(): boolean {
    return this.#timer !== undefined;
  }

  /** Reports what is left. */
  async stop(): Promise<void> {
    this.#end();
    await this.tell.current;
    await this.tell();
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** To be called after requests: reports at once if many series are unreported. */
  refresh(): void {
    if (!this.tell.current && !this.#isRefused && (this.#limiter()?.daily.waiting ?? 0) >= MANY)
      setImmediate(() => void this.tell());
  }

  /** Resolves when all series seen so far were reported, or could not be, in which case they are kept. */
  readonly tell = oneRun(() => this.#tellAll());

  /** Undefined if series are not counted. */
  status(): DailyStatus | undefined {
    const limiter = this.#limiter();
    if (!limiter || limiter.daily.limit === 0 || this.#last?.day !== limiter.daily.day) return undefined;
    const { day, counts } = this.#last;
    const now = this.#now();
    return {
      day,
      limit: limiter.daily.limit,
      mode: limiter.daily.isEnforced ? 'enforce' : 'observe',
      sum: counts.sum,
      metrics: counts.top.filter(isOne).map(({ number, name, keys }) => {
        const forecast = this.#forecast.at(now, number, keys);
        return {
          metric: name.slice(0, NAME_MAX).toWellFormed(),
          keys,
          ...(forecast === undefined ? {} : { forecast }),
        };
      }),
    };
  }

  async #tellAll(): Promise<void> {
    const limiter = this.#limiter();
    if (!limiter || limiter.daily.limit === 0) return;
    limiter.beginDay();
    const { daily } = limiter;
    const untold = daily.take();
    if (untold.at(-1)?.day !== daily.day) untold.push({ day: daily.day, series: new Map() });
    try {
      for (let one = untold[0]; one; one = untold[0]) {
        const came = new Map<Metric, number>();
        for (const metric of one.series.keys()) came.set(metric, metric.dailyNew);
        const all = [...one.series].map(([metric, hashes]) => ({
          number: String(metric.hash),
          name: metric.name,
          series: packed(hashes),
        }));
        const counts = await this.#state.count(one.day, all, TOP_DAILY, Math.ceil(KNOWN_FROM * daily.limit));
        daily.forget(all.reduce((sum, { series }) => sum + series.byteLength / 8, 0));
        untold.shift();
        this.#learn(limiter, one.day, counts, came);
      }
      this.#isRefused = false;
    } catch (error) {
      this.#isRefused = true;
      daily.giveBack(untold.filter(({ series }) => series.size > 0));
      this.#failed(error as Error);
    }
  }

  #learn(
    limiter: CardinalityLimiter,
    day: string,
    counts: DailyCounts,
    came: ReadonlyMap<Metric, number>,
  ): void {
    if (day !== limiter.daily.day) return;
    this.#last = { day, counts };
    this.#forecast.record(this.#now(), new Map(counts.top.map(({ number, keys }) => [number, keys])));
    limiter.learnDaily(day, counts.over, came);
  }
}

/** Metrics beyond those that are counted one by one appear only in the sum. */
function isOne({ number }: { number: string }): boolean {
  return number !== DAILY_OTHERS;
}
