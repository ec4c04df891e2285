import { describe, expect, it } from 'vitest';
import { RateMeter } from './rate-meter.ts';

describe('the rate of a counter', () => {
  it('covers about the span, however often it is read', () => {
    const meter = new RateMeter(4_000, 15_000);
    expect(meter.perSecond('items', 0)).toBe(0);
    for (let at = 0; at <= 60_000; at += 1_000) meter.record('items', 'redis', Math.min(at, 30_000), at);
    expect(meter.perSecond('items', 60_000)).toBe(0);
    for (let at = 61_000; at <= 70_000; at += 1_000)
      meter.record('items', 'redis', 30_000 + (at - 60_000) * 2, at);
    expect(meter.perSecond('items', 70_000)).toBe(2_000);
  });

  it('sums sources, each by the time of its own report', () => {
    const meter = new RateMeter(4_000, 15_000);
    // Read together, but the second said its part 1.5 s before.
    for (const [at, value] of [
      [0, 0],
      [5_000, 500],
    ] as const) {
      meter.record('items', 'one', value, at);
      meter.record('items', 'two', value * 2, at - 1_500);
    }
    expect(meter.perSecond('items', 5_000)).toBeCloseTo(300);
  });

  it('resets when a process restarts, and forgets one that stops reporting', () => {
    const meter = new RateMeter(4_000, 15_000);
    meter.record('items', 'one', 1_000, 0);
    meter.record('items', 'one', 10, 5_000);
    expect(meter.perSecond('items', 5_000)).toBe(0);
    meter.record('items', 'one', 60, 10_000);
    expect(meter.perSecond('items', 10_000)).toBe(10);
    expect(meter.perSecond('items', 30_000)).toBe(0);
    meter.record('items', 'one', 1_000_000, 31_000);
    expect(meter.perSecond('items', 31_000)).toBe(0);
  });
});
