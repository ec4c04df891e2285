import { expect, it } from 'vitest';
import { DailyForecast } from './daily-forecast.ts';

const MINUTE_MS = 60_000;
const MIDNIGHT = Date.parse('2026-11-29T00:00:00Z');

/** @param keys of the minute of the day */
function after(minutes: number, keys: (minute: number) => number): number | undefined {
  const forecast = new DailyForecast();
  for (let minute = 0; minute <= minutes; minute++)
    forecast.record(MIDNIGHT + minute * MINUTE_MS, new Map([['m', keys(minute)]]));
  return forecast.at(MIDNIGHT + minutes * MINUTE_MS, 'm', keys(minutes));
}

it.each([
  [
    'nothing is said before the first half hour is over and five minutes were seen',
    34,
    () => 1_000,
    undefined,
  ],
  [
    'a set that stays is as large at the end, however fast it came',
    60,
    (m: number) => Math.min(m, 10) * 100,
    1_000,
  ],
  ['growth goes on as in the last hour', 12 * 60, (m: number) => 5_000 + 10 * m, 5_000 + 10 * 24 * 60],
  ['what grew before the last hour grows no more', 6 * 60, (m: number) => 100 * Math.min(m, 240), 24_000],
  ['at the end of the day it is what there is', 24 * 60 - 1, () => 77, 77],
] as const)('%s', (_, minutes, keys, expected) => {
  expect(after(minutes, keys)).toBe(expected);
});

it('starts from scratch on a new day, and forgets metrics that are no longer tracked', () => {
  const forecast = new DailyForecast();
  const at = (minute: number) => MIDNIGHT + minute * MINUTE_MS;
  for (const minute of [1_380, 1_390, 1_400]) forecast.record(at(minute), new Map([['m', minute]]));
  expect(forecast.at(at(1_400), 'm', 1_400)).toBe(1_440);
  forecast.record(at(1_441), new Map([['m', 1]]));
  expect(forecast.at(at(1_441), 'm', 1)).toBeUndefined();
  for (const minute of [1_480, 1_490]) forecast.record(at(minute), new Map([['m', 1]]));
  expect(forecast.at(at(1_490), 'm', 1)).toBe(1);
  forecast.record(at(1_491), new Map());
  expect(forecast.at(at(1_491), 'm', 1)).toBeUndefined();
});
