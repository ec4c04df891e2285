import { describe, expect, it } from 'vitest';
import { Random } from '../hash.ts';
import { EPOCH_WEIGHT, SketchPool } from './entropy.ts';

const LOG_KEYS = Math.log2(65_536);

function exactBits(counts: Map<number, number>): number {
  let total = 0;
  let sum = 0;
  for (const count of counts.values()) {
    total += count;
    sum += count * Math.log2(count);
  }
  return Math.log2(total) - sum / total;
}

/** Hashes of values as the limiter makes them: well mixed, different for different values. */
function mixed(value: number): number {
  let z = (value + 0x7f4a7c15) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
}

function zipf(values: number, exponent: number): (random: Random) => number {
  const cumulative = new Float64Array(values);
  let sum = 0;
  for (let rank = 0; rank < values; rank++) cumulative[rank] = sum += (rank + 1) ** -exponent;
  return (random) => {
    const at = random.fraction() * sum;
    let low = 0;
    let high = values - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

const uniform = (values: number) => (random: Random) => random.next() % values;
/** One value is half of everything, the rest is equally likely. */
const skewed = (values: number) => (random: Random) => (random.next() & 1 ? 0 : 1 + (random.next() % values));

/** RMS error of the score over several runs, each against the exact entropy of its own stream. */
function error(draw: (random: Random) => number, occurrences: number, runs: number, weightOfKnown = 1) {
  let squares = 0;
  let exact = 0;
  for (let run = 1; run <= runs; run++) {
    const random = new Random(run * 7919);
    const sketch = new SketchPool(1, new Random(run)).take(0)!;
    const counts = new Map<number, number>();
    for (let i = 0; i < occurrences; i++) {
      const value = draw(random);
      const count = counts.get(value) ?? 0;
      counts.set(value, count + 1);
      if (weightOfKnown === 1 || count === 0) sketch.add(mixed(value), 1);
      else if (random.next() % weightOfKnown === 0) sketch.add(mixed(value), weightOfKnown);
    }
    exact = exactBits(counts);
    squares += ((sketch.estimate() - exact) / LOG_KEYS) ** 2;
  }
  return { rms: Math.sqrt(squares / runs), score: exact / LOG_KEYS };
}

describe('EntropySketch against exact entropy, as a share of log2(65,536)', () => {
  const table: [string, (random: Random) => number, number, number][] = [
    ['uniform over 100', uniform(100), 50_000, 1e-9],
    ['uniform over 1,000', uniform(1000), 50_000, 0.015],
    ['uniform over 4,096', uniform(4096), 100_000, 0.015],
    ['uniform over 21,600', uniform(21_600), 200_000, 0.015],
    ['uniform over 65,536', uniform(65_536), 250_000, 0.015],
    ['zipf 1.0 over 65,536', zipf(65_536, 1), 100_000, 0.03],
    ['zipf 1.5 over 65,536', zipf(65_536, 1.5), 100_000, 0.03],
    ['half one value, half 65,536', skewed(65_536), 100_000, 0.06],
  ];
  for (const [name, draw, occurrences, bound] of table) {
    it(`${name}: RMS error under ${bound}`, () => {
      expect(error(draw, occurrences, 6).rms).toBeLessThan(bound);
    });
  }

  it('stays correct if known key-sets are sampled, one in 8 with weight 8', () => {
    expect(error(uniform(4096), 100_000, 6, 8).rms).toBeLessThan(0.03);
    expect(error(zipf(65_536, 1), 100_000, 6, 8).rms).toBeLessThan(0.04);
  });

  it('yields the documented scores at the thresholds', () => {
    expect(error(uniform(4096), 250_000, 1).score).toBeCloseTo(0.75, 2);
    expect(error(uniform(21_600), 250_000, 1).score).toBeCloseTo(0.9, 2);
  });

  it('is exact for values that never repeat', () => {
    const sketch = new SketchPool(1, new Random(1)).take(0)!;
    for (let i = 0; i < 65_536; i++) sketch.add(mixed(i), 1);
    expect(sketch.estimate()).toBe(16);
  });

  it('distinguishes a hundred thousand rare values behind ten common ones from a storm', () => {
    const draw = (random: Random) =>
      random.next() % 100 ? random.next() % 10 : 10 + (random.next() % 100_000);
    expect(error(draw, 200_000, 1).score).toBeLessThan(0.3); // 10 bits would be the count of distinct values
  });

  it('rotates without forgetting that a label was bad', () => {
    const sketch = new SketchPool(1, new Random(1)).take(0)!;
    for (let i = 0; i < EPOCH_WEIGHT; i++) sketch.add(mixed(i), 1);
    sketch.rotate(1000, 1e9);
    expect(sketch.weight).toBe(0);
    expect(sketch.bits()).toBe(18);
    for (let i = 0; i < 1000; i++) sketch.add(mixed(i % 4), 1);
    sketch.rotate(2000, 1e9); // too young and too light
    expect(sketch.bits()).toBe(18);
    sketch.rotate(2e9, 1e9);
    expect(sketch.bits()).toBe(2);
  });

  it('takes 2 KiB per sketch from a pool that does not grow', () => {
    const pool = new SketchPool(3, new Random(1));
    expect(pool.memoryBytes).toBe(3 * 2048);
    const taken = [pool.take(0)!, pool.take(0)!, pool.take(0)!];
    expect(pool.take(0)).toBeUndefined();
    pool.give(taken[1]!);
    expect(pool.take(0)!.estimate()).toBe(0);
  });
});
