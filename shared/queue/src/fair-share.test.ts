import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairShare } from './fair-share.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';

const WEIGHTS = { critical: 5, high: 3, normal: 1 };
const weights = fc.record({
  critical: fc.integer({ min: 1, max: 50 }),
  high: fc.integer({ min: 1, max: 50 }),
  normal: fc.integer({ min: 1, max: 50 }),
});
const MAX_BATCH = 1_000;
const batch = fc.integer({ min: 1, max: MAX_BATCH });

describe('FairShare', () => {
  it('keeps shares exact within one batch over any window in which all classes wait', () => {
    fc.assert(
      fc.property(weights, fc.array(batch, { minLength: 50, maxLength: 400 }), (w, sizes) => {
        const share = new FairShare(w);
        const history: Record<PriorityClass, number>[] = [{ critical: 0, high: 0, normal: 0 }];
        for (const size of sizes) {
          const c = share.pick(() => true)!;
          share.served(c, size);
          history.push({ ...history.at(-1)!, [c]: history.at(-1)![c] + size });
        }
        for (let from = 0; from < history.length; from += 7) {
          for (let to = from + 1; to < history.length; to += 11) {
            for (const a of CLASSES) {
              for (const b of CLASSES) {
                const served = (c: PriorityClass) => (history[to]![c] - history[from]![c]) / w[c];
                // Goyal's bound: one largest batch of each of the two.
                expect(Math.abs(served(a) - served(b))).toBeLessThanOrEqual(
                  MAX_BATCH / w[a] + MAX_BATCH / w[b] + 1e-9,
                );
              }
            }
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  it('never idles while a class waits, and never picks one that does not', () => {
    fc.assert(
      fc.property(
        weights,
        fc.array(fc.tuple(fc.subarray([...CLASSES]), batch), { maxLength: 300 }),
        (w, steps) => {
          const share = new FairShare(w);
          for (const [waiting, size] of steps) {
            const c = share.pick((candidate) => waiting.includes(candidate));
            if (waiting.length === 0) expect(c).toBeUndefined();
            else {
              expect(waiting).toContain(c);
              share.served(c!, size);
            }
          }
        },
      ),
    );
  });

  it('lets an idle class neither save credit nor starve', () => {
    const share = new FairShare(WEIGHTS);
    for (let i = 0; i < 10_000; i++) share.served(share.pick((c) => c !== 'normal')!, 100);
    const served = { critical: 0, high: 0, normal: 0 };
    for (let i = 0; i < 900; i++) {
      const c = share.pick(() => true)!;
      share.served(c, 100);
      served[c]++;
    }
    expect(served.critical).toBeGreaterThanOrEqual(499);
    expect(served.critical).toBeLessThanOrEqual(501);
    expect(served.normal).toBeGreaterThanOrEqual(99);
    expect(served.normal).toBeLessThanOrEqual(101);
  });

  it('stays exact over a million items', () => {
    const share = new FairShare(WEIGHTS);
    const served = { critical: 0, high: 0, normal: 0 };
    let seed = 20261123;
    const random = () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32;
    };
    while (served.critical + served.high + served.normal < 1_000_000) {
      const c = share.pick(() => true)!;
      const size = 1 + Math.floor(random() * 500);
      share.served(c, size);
      served[c] += size;
    }
    expect(Math.abs(served.critical / 5 - served.normal)).toBeLessThanOrEqual(600);
    expect(Math.abs(served.high / 3 - served.normal)).toBeLessThanOrEqual(600);
  });
});
