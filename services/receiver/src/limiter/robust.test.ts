import { fromBinary } from '@bufbuild/protobuf';
import { walk } from '@nrdot/otlp';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { referenceRequest } from '../../../../shared/otlp/test/reference.ts';
import {
  encode,
  type Kind,
  type Labels,
  type MetricData,
  type PointData,
  Request,
  UnpackedRequest,
} from './test/otlp.ts';
import { type Rig, ruledRig } from './test/rig.ts';

const metricsRequest = referenceRequest('metrics');

const labels: fc.Arbitrary<Labels> = fc.dictionary(
  fc.constantFrom('user', 'route', 'pod', 'list'),
  fc.oneof(
    fc.constantFrom('a', 'b', 'c'),
    fc.bigInt({ min: 0n, max: 3n }),
    fc.array(fc.constantFrom('x', 'y')),
  ),
);
const count = fc.bigInt({ min: 0n, max: 5n });
const point: fc.Arbitrary<PointData> = fc.record(
  {
    labels,
    start: fc.bigInt({ min: 0n, max: 2n ** 62n }),
    time: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    flags: fc.constantFrom(0, 0, 0, 1),
    count,
    sum: fc.double(),
    exemplars: fc.array(fc.double(), { maxLength: 3 }),
    min: fc.double(),
  },
  { requiredKeys: ['labels'] },
);
const number = fc.oneof(
  fc.record({ int: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }),
  fc.record({ double: fc.double() }),
);
const histogram = fc.record({
  buckets: fc.array(count, { maxLength: 4 }),
  bounds: fc.array(fc.double(), { maxLength: 3 }),
});
const side = fc.record({
  offset: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  counts: fc.array(count, { maxLength: 200 }),
});
const exponential = fc.record(
  {
    scale: fc.integer({ min: -20, max: 30 }),
    zeroCount: count,
    zeroThreshold: fc.double(),
    positive: side,
    negative: side,
  },
  { requiredKeys: [] },
);

const kinds: Kind[] = ['gauge', 'sum', 'histogram', 'exponential', 'summary'];
const metric: fc.Arbitrary<MetricData> = fc
  .record({
    kind: fc.constantFrom(...kinds),
    temporality: fc.constantFrom(0 as const, 1 as const, 2 as const),
    monotonic: fc.boolean(),
    points: fc.array(fc.tuple(point, number, histogram, exponential), { maxLength: 6 }),
  })
  .map(({ kind, temporality, monotonic, points }) => ({
    name: 'm',
    kind,
    ...(kind === 'gauge' || kind === 'summary' ? {} : { temporality }),
    ...(kind === 'sum' ? { monotonic } : {}),
    points: points.map(([base, n, h, e]) => {
      if (kind === 'gauge' || kind === 'sum') return { ...base, ...n };
      if (kind === 'histogram') return { ...base, ...h };
      return kind === 'exponential' ? { ...base, ...e } : base;
    }),
  }));

const body = fc
  .tuple(
    fc.array(fc.record({ labels, metrics: fc.array(metric, { maxLength: 3 }) }), { maxLength: 3 }),
    fc.constantFrom(Request, UnpackedRequest),
  )
  .map(([resources, type]) =>
    encode(
      resources.map((one) => ({ labels: one.labels, scopes: [{ metrics: one.metrics }] })),
      type,
    ),
  );
const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 });

/** Sends bodies, some of them tampered with but still messages, and holds what comes out against what went in. */
function check(made: Rig, bodies: [Uint8Array, [number, number][]][]): number {
  let merged = 0;
  for (const [clean, changes] of bodies) {
    const bytes = Uint8Array.from(clean);
    if (bytes.length > 0) for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
    let items: number;
    try {
      items = walk('metrics', bytes).items;
    } catch {
      continue; // refused before it comes here
    }
    made.now += 1000;
    const before = Buffer.from(bytes);
    const limited = made.limiter.process(bytes);
    expect(before.equals(bytes)).toBe(true);
    expect(limited.points + limited.droppedPoints + limited.aggregatedPoints).toBe(items);
    expect(walk('metrics', limited.body).items).toBe(limited.points);
    fromBinary(metricsRequest, limited.body);
    expect(limited.dropped.reduce((sum, row) => sum + row.count, 0)).toBe(limited.droppedPoints);
    merged += limited.aggregatedPoints;
  }
  return merged;
}

describe('any input', () => {
  const bodies = fc.array(fc.tuple(body, damage), { minLength: 1, maxLength: 4 });

  it('is merged into valid requests, and every point is accounted for', () => {
    let merged = 0;
    fc.assert(
      fc.property(
        bodies,
        (list) => void (merged += check(ruledRig(['m'], ['user', 'resource:pod', 'list']), list)),
      ),
      { numRuns: 120 },
    );
    expect(merged).toBeGreaterThan(10);
  });

  it('can also go into overflow streams', () => {
    fc.assert(
      fc.property(bodies, (list) => {
        const made = ruledRig([], [], { maxKeys: 64, criticalAction: 'overflow', aggregateLabels: [] });
        check(made, list);
        made.limiter.learnTotals(61, 0);
        check(made, list);
      }),
      { numRuns: 150 },
    );
  });
});
