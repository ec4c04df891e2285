import { describe, expect, it } from 'vitest';
import {
  judgeTotals,
  MetricLedger,
  MetricProducer,
  type Point,
  readPoints,
  type SeriesKind,
} from './index.ts';

const KINDS: readonly SeriesKind[] = [
  'counter',
  'double counter',
  'level',
  'delta',
  'gauge',
  'histogram',
  'delta histogram',
  'exponential histogram',
];
const ROUNDS = 40;
const START_MS = 1_700_000_000_000;

function history(seed: number, options: { extremes?: boolean; startsWithProcess?: boolean } = {}): Buffer[] {
  const producer = new MetricProducer({ seed, name: 'p', series: 4, kinds: KINDS, ...options }, START_MS);
  const bodies: Buffer[] = [];
  for (let round = 1; round <= ROUNDS; round += 1) {
    if (round === ROUNDS / 2) producer.restart(START_MS + round * 1_000);
    bodies.push(...producer.collect(START_MS + round * 1_000));
  }
  bodies.push(...producer.finish(START_MS + (ROUNDS + 1) * 1_000));
  return bodies;
}

function byStream(bodies: readonly Buffer[]): Map<string, Point[]> {
  return Map.groupBy(bodies.flatMap(readPoints), ({ stream }) => stream.identity);
}

function isCumulativeCounter({ stream }: Point): boolean {
  return stream.kind === 'counter' && stream.temporality === 'cumulative';
}

describe('a producer of metrics', () => {
  it('is deterministic for a seed, and sends streams as from a single writer', () => {
    const bodies = history(5);
    expect(history(5)).toEqual(bodies);
    const ledger = new MetricLedger();
    for (const body of bodies) ledger.take(body);
    expect(ledger.faults()).toEqual(new Map());
    expect(new Set([...ledger.groups([]).values()].map(({ kind }) => kind)).size).toBe(5);
  });

  it('has series that come, go, report rarely, and restart with another start time', () => {
    const streams = [...byStream(history(6)).values()].filter(([first]) => isCumulativeCounter(first!));
    const starts = streams.map((points) => new Set(points.map(({ start }) => start)).size);
    expect(Math.max(...starts)).toBe(2);
    expect(new Set(streams.map((points) => points[0]!.time)).size).toBeGreaterThan(5);
    expect(new Set(streams.map((points) => points.length)).size).toBeGreaterThan(5);
  });

  it('may give all its series the start of its process', () => {
    const starts = (startsWithProcess: boolean) =>
      new Set(
        history(7, { startsWithProcess })
          .flatMap(readPoints)
          .filter(isCumulativeCounter)
          .map(({ start }) => start),
      ).size;
    expect(starts(true)).toBe(2);
    expect(starts(false)).toBeGreaterThan(5);
  });

  it('sends non-finite values on request, and continues', () => {
    const values = history(8, { extremes: true })
      .flatMap(readPoints)
      .map(({ value, stale }) => stale || value);
    expect(values.filter((value) => value === undefined).length).toBeGreaterThan(0);
    expect(
      history(8)
        .flatMap(readPoints)
        .every(({ value, stale }) => stale || value),
    ).toBe(true);
  });

  it('is judged lossless behind a forwarder, and lossy behind one that drops', () => {
    const bodies = history(9);
    const [counted, received, lacking] = [new MetricLedger(), new MetricLedger(), new MetricLedger()];
    for (const body of bodies) counted.take(body);
    for (const body of bodies.toReversed()) received.take(body);
    for (const body of bodies.slice(0, -3)) lacking.take(body);
    const expectation = { counted, atMost: counted, kept: ['route'] };
    expect(judgeTotals(received, expectation)).toEqual([]);
    expect(judgeTotals(lacking, expectation).length).toBeGreaterThan(0);
  });
});
