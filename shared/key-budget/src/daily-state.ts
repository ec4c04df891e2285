import { defineScript, pairsOf, type RedisConnection } from '@nrdot/redis';

/** Maximum number of metrics counted one by one per day, at 12 KB each; further ones are counted together. */
const DAILY_METRICS_MAX = 2_048;
export const DAILY_OTHERS = '0';
/** Series per step; a metric counts as so many. One step takes 1 to 3 ms of Redis' time. */
const STEP_SERIES = 512;
const METRIC_SERIES = 16;
/** Receivers report the last series of a day at most this long after its end. */
const LATE_SEC = 300;

/**
 * Adds series of a UTC day and returns the counts. Idempotent: each series counts once.
 *
 * KEYS  1 counts of the day (sorted set)
 * ARGV  1 expiry, Unix s  2 maximum number of metrics  3 how many of the largest to return  4 also return those with at least
 *       so many series, '' for none  then number, name and series (8 bytes each) of a metric, in turn
 * Gives the sum, the number of metrics, number, name and count of the largest, and number and count of the others
 */
const COUNT = `
local rcall, day = redis.call, KEYS[1]
local names = day .. ':names'
for i = 5, #ARGV, 3 do
  local number, name, series = ARGV[i], ARGV[i+1], ARGV[i+2]
  local before = rcall('ZSCORE', day, number)
  if not before and rcall('ZCARD', day) >= tonumber(ARGV[2]) then
    number, name = '${DAILY_OTHERS}', '(other metrics)'
    before = rcall('ZSCORE', day, number)
  end
  local hashes = {}
  for at = 1, #series, 8 do hashes[#hashes+1] = string.sub(series, at, at + 7) end
  local key = day .. ':' .. number
  if rcall('PFADD', key, unpack(hashes)) == 1 or not before then
    local count = rcall('PFCOUNT', key)
    rcall('ZADD', day, count, number)
    rcall('HINCRBY', names, 'sum', count - tonumber(before or 0))
    if not before then
      rcall('HSET', names, number, name)
      rcall('EXPIREAT', key, ARGV[1])
    end
  end
end
if #ARGV > 4 then
  rcall('EXPIREAT', day, ARGV[1])
  rcall('EXPIREAT', names, ARGV[1])
end
local top = {}
local largest = rcall('ZREVRANGE', day, 0, tonumber(ARGV[3]) - 1, 'WITHSCORES')
for i = 1, #largest, 2 do
  top[#top+1] = largest[i]
  top[#top+1] = rcall('HGET', names, largest[i]) or ''
  top[#top+1] = largest[i+1]
end
local over = {}
if ARGV[4] ~= '' then over = rcall('ZREVRANGEBYSCORE', day, '+inf', ARGV[4], 'WITHSCORES') end
return { rcall('HGET', names, 'sum') or '0', string.format('%.0f', rcall('ZCARD', day)), top, over }
`;

/** Series of one metric, 8 bytes of hash each. */
export interface DailySeries {
  /** Hash of the metric's name, in digits. */
  number: string;
  name: string;
  series: Buffer;
}

export interface DailyCounts {
  /** Distinct series of all metrics. */
  sum: number;
  metrics: number;
  /** Most series first. */
  top: { number: string; name: string; keys: number }[];
  /** Metrics with at least `over` series, by number. */
  over: Map<string, number>;
}

type Counting = RedisConnection & {
  nrdotCountDaily(
    ...args: (string | number | Buffer)[]
  ): Promise<[sum: string, metrics: string, top: string[], over: string[]]>;
};

/**
 * Counts distinct series by metric and UTC day across all receivers, with one HyperLogLog per metric (standard error 0.81 %).
 */
export class DailyState {
  readonly #redis: Counting;
  readonly #keyOf: (day: string) => string;

  constructor(redis: RedisConnection, keys: { daily(day: string): string }) {
    defineScript(redis, 'nrdotCountDaily', 1, COUNT);
    this.#redis = redis as Counting;
    this.#keyOf = keys.daily;
  }

  /**
   * Counts series, in several scripts so that other commands run in between.
   * @param day such as `2026-11-29`
   * @param top how many of the largest metrics to return
   * @param over also return metrics with at least so many series
   */
  async count(
    day: string,
    all: readonly DailySeries[],
    top: number,
    over: number | undefined,
  ): Promise<DailyCounts> {
    const expires = Math.floor(Date.parse(`${day}T00:00:00Z`) / 1000) + 24 * 3_600 + LATE_SEC;
    const args = [this.#keyOf(day), expires, DAILY_METRICS_MAX];
    for (const step of stepsOf(all)) await this.#redis.nrdotCountDaily(...args, 0, '', ...step);
    const [sum, metrics, largest, others] = await this.#redis.nrdotCountDaily(...args, top, over ?? '');
    const rows: DailyCounts['top'] = [];
    for (let i = 0; i + 2 < largest.length; i += 3)
      rows.push({ number: largest[i]!, name: largest[i + 1]!, keys: Number(largest[i + 2]) });
    const counts = new Map(pairsOf(others).map(([number, keys]) => [number, Number(keys)]));
    return { sum: Number(sum), metrics: Number(metrics), top: rows, over: counts };
  }
}

/** Splits the series into the arguments of as many calls as needed. */
function* stepsOf(all: readonly DailySeries[]): Generator<(string | Buffer)[]> {
  let step: (string | Buffer)[] = [];
  let left = STEP_SERIES;
  for (const { number, name, series } of all) {
    for (let from = 0; from < series.byteLength; ) {
      const some = series.subarray(from, from + 8 * (left - METRIC_SERIES));
      step.push(number, name, some);
      from += some.byteLength;
      left -= some.byteLength / 8 + METRIC_SERIES;
      if (left > METRIC_SERIES) continue;
      yield step;
      step = [];
      left = STEP_SERIES;
    }
  }
  if (step.length > 0) yield step;
}
