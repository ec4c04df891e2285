import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GaugeReducer } from '../options.ts';
import { NumberPoint } from '../wire/point.ts';
import { NumberTotal, NumberValue } from './accumulate-number.ts';

/** A NumberDataPoint with this value and a time. */
function point(value: number | bigint, time = 1): NumberPoint {
  const bytes = Buffer.alloc(18);
  bytes[0] = 0x19;
  bytes.writeBigUInt64LE(BigInt(time), 1);
  bytes[9] = typeof value === 'bigint' ? 0x31 : 0x21;
  if (typeof value === 'bigint') bytes.writeBigInt64LE(value, 10);
  else bytes.writeDoubleLE(value, 10);
  return new NumberPoint().decode(bytes, 0, bytes.length);
}

const NOT_FINITE = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const REDUCERS: GaugeReducer[] = ['last', 'min', 'max', 'mean', 'sum'];

function reduced(reducer: GaugeReducer, points: NumberPoint[]): number {
  const total = new NumberTotal(reducer);
  for (const one of points) total.add(one);
  total.finish();
  return total.value.number;
}

describe('NumberPoint', () => {
  it('reports whether its value is a number', () => {
    for (const value of NOT_FINITE) expect(point(value).finite).toBe(false);
    for (const value of [0, -0, 1.5, -Number.MAX_VALUE, 5e-324, 2n ** 63n - 1n, -(2n ** 63n), -1n]) {
      expect(point(value).finite, String(value)).toBe(true);
    }
  });
});

describe('gauges that are merged', () => {
  it.each(REDUCERS)('%s: ignores non-finite values if there are finite ones', (reducer) => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: -1000, max: 1000 }), fc.constantFrom(...NOT_FINITE)), {
          maxLength: 6,
        }),
        fc.integer({ min: -1000, max: 1000 }),
        fc.nat(6),
        (others, some, at) => {
          const values = [...others.slice(0, at), some, ...others.slice(at)];
          const points = values.map((value, i) => point(value, i + 1));
          const finite = points.filter(({ finite }) => finite);
          expect(reduced(reducer, points)).toBe(reduced(reducer, finite));
        },
      ),
    );
  });

  it('take the last finite value by time, whatever the times of the others', () => {
    expect(reduced('last', [point(10, 1), point(Number.NaN, 9), point(20, 2)])).toBe(20);
    expect(reduced('last', [point(Number.NaN, 9), point(20, 2), point(10, 1)])).toBe(20);
  });

  it.each(REDUCERS)('%s: NaN alone stays NaN', (reducer) => {
    expect(reduced(reducer, [point(Number.NaN, 1), point(Number.NaN, 2)])).toBeNaN();
  });

  it('stay finite if all inputs are', () => {
    const large = [point(Number.MAX_VALUE), point(Number.MAX_VALUE), point(Number.MAX_VALUE)];
    for (const reducer of REDUCERS) expect(Number.isFinite(reduced(reducer, large)), reducer).toBe(true);
  });

  it('are integers as long as all inputs are', () => {
    const total = new NumberTotal('sum');
    for (const one of [point(2n ** 60n + 1n), point(Number.NaN), point(2n)]) total.add(one);
    expect(total.value).toMatchObject({ isInt: true, lo: 3, hi: 2 ** 28 });
  });
});

describe('NumberValue', () => {
  it('stays finite whatever finite values are added and subtracted', () => {
    const value = () => fc.double({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(value(), fc.constantFrom(Number.MAX_VALUE, -Number.MAX_VALUE))),
        (list) => {
          const total = new NumberValue().setInt(0, 0);
          list.forEach((number, i) => {
            const one = new NumberValue().setDouble(number);
            if (i % 3 === 2) total.subtract(one);
            else total.add(one);
            expect(Number.isFinite(total.number)).toBe(true);
          });
        },
      ),
    );
  });
});
