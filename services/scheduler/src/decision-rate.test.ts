import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DecisionRate } from './decision-rate.ts';

describe('DecisionRate', () => {
  it('covers the last ten whole seconds, whatever came before and however time jumps', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: -3_000, max: 15_000 }), fc.nat({ max: 100 })), { minLength: 1 }),
        (steps) => {
          const rate = new DecisionRate();
          let latest = 1_700_000_000_000;
          rate.count(0, latest);
          const all: [second: number, count: number][] = [];
          for (const [stepMs, count] of steps) {
            const now = latest + stepMs;
            rate.count(count, now);
            latest = Math.max(latest, now); // a clock that goes back is not followed
            all.push([Math.floor(latest / 1000), count]);
          }
          const present = Math.floor(latest / 1000);
          const expected = all
            .filter(([second]) => second < present && second >= present - 10)
            .reduce((sum, [, count]) => sum + count, 0);
          expect(rate.perSecond(latest)).toBeCloseTo(expected / 10, 9);
          expect(rate.perSecond(latest + 11_000)).toBe(0);
        },
      ),
    );
  });
});
