import { expect, it } from 'vitest';
import { durationText, numberText, sizeText, timeText } from './words.ts';

it('formats sizes, durations, numbers and times for people', () => {
  expect([0, 1, 1023, 1024, 1536, 150 * 1024 ** 2, 15 * 1024 ** 3].map(sizeText)).toEqual([
    '0 B',
    '1 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '150 MiB',
    '15.0 GiB',
  ]);
  expect([0, 0.2, 99, 100, 5_999, 6_000, 345_600, Number.POSITIVE_INFINITY].map(durationText)).toEqual([
    '0 s',
    '1 s',
    '99 s',
    '2 min',
    '100 min',
    '1.7 h',
    '4 d',
    'for ever',
  ]);
  expect(numberText(1234567)).toBe('1,234,567');
  expect([timeText(0), timeText(1_700_000_000_123)]).toEqual(['-', '2023-11-14T22:13:20Z']);
  expect(timeText(Number.MAX_SAFE_INTEGER)).toBe('9007199254740991');
});
