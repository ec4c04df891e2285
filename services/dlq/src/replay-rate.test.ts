import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReplayRate } from './replay-rate.ts';

const MIB = 1024 * 1024;

describe('ReplayRate', () => {
  it('stays within the cap in every second, whatever the sizes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10_000, max: 8 * MIB }),
        fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 300 }),
        (cap, sizes) => {
          let now = 0;
          const rate = new ReplayRate(cap, now);
          let sent = 0;
          let largest = 0;
          for (const bytes of sizes) {
            for (let wait = rate.take(bytes, now); wait > 0; wait = rate.take(bytes, now)) now += wait;
            sent += bytes;
            largest = Math.max(largest, bytes);
            expect(sent).toBeLessThanOrEqual((cap * now) / 1000 + cap * 0.25 + largest + 1);
          }
        },
      ),
    );
  });

  it('uses the whole cap if nothing slows it down', () => {
    const rate = new ReplayRate(4 * MIB, 0);
    let now = 0;
    let sent = 0;
    while (now < 10_000) {
      const wait = rate.take(50_000, now);
      if (wait > 0) now += wait;
      else sent += 50_000;
    }
    expect(sent / 10 / MIB).toBeGreaterThan(3.9);
    expect(sent / 10 / MIB).toBeLessThan(4.15);
  });

  it('falls when the upstream is overloaded, recovers, and gets stuck at neither bound', () => {
    const rate = new ReplayRate(1000, 0);
    rate.adapt('slow', 1_000);
    expect(rate.bytesPerSecond).toBe(800);
    for (let s = 2; s <= 20; s++) rate.adapt('throttled', s * 1000);
    expect(rate.bytesPerSecond).toBe(20);
    for (let s = 21; s <= 60; s++) rate.adapt('easy', s * 1000);
    expect(rate.bytesPerSecond).toBe(1000);
  });

  it('allows a batch larger than the bucket, and delays the next one accordingly', () => {
    const rate = new ReplayRate(1000, 0);
    expect(rate.take(10_000, 1000)).toBe(0);
    expect(rate.take(1, 1000)).toBeGreaterThan(9_000);
  });
});
