import { describe, expect, it } from 'vitest';
import { NumberPoint } from './point.ts';
import { Span } from './span.ts';

const NONE = 0n;
const LAST = 2n ** 64n - 1n;

function spanOf(...points: [start: bigint, time: bigint][]): [bigint, bigint] {
  const span = new Span();
  for (const [start, time] of points) {
    const point = new NumberPoint();
    point.startLo = Number(BigInt.asIntN(32, start));
    point.startHi = Number(BigInt.asIntN(32, start >> 32n));
    point.timeLo = Number(BigInt.asIntN(32, time));
    point.timeHi = Number(BigInt.asIntN(32, time >> 32n));
    span.include(point);
  }
  const whole = (lo: number, hi: number) => BigInt.asUintN(64, (BigInt(hi) << 32n) | BigInt(lo >>> 0));
  return [whole(span.startLo, span.startHi), whole(span.timeLo, span.timeHi)];
}

describe('Span', () => {
  it('is from the earliest start to the latest time', () => {
    expect(spanOf([5n, 9n], [4n, 8n], [6n, 10n])).toEqual([4n, 10n]);
    expect(spanOf([2n ** 32n + 1n, 2n ** 63n], [2n ** 63n + 1n, LAST])).toEqual([2n ** 32n + 1n, LAST]);
    expect(spanOf([LAST, LAST])).toEqual([LAST, LAST]);
  });

  it('ignores missing times', () => {
    expect(spanOf([NONE, 9n], [4n, NONE], [6n, 8n])).toEqual([4n, 9n]);
    expect(spanOf([4n, 9n], [NONE, NONE])).toEqual([4n, 9n]);
    expect(spanOf([NONE, NONE], [NONE, NONE])).toEqual([NONE, NONE]);
  });
});
