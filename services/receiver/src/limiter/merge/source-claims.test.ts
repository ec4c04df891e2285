import { expect, it } from 'vitest';
import { type MetricData, type PointData, request } from '../test/otlp.ts';
import { ruledRig, START_MS } from '../test/rig.ts';
import { packSourceClaims, sourceClaims } from './source-claims.ts';

const at = (ms: number) => BigInt(START_MS + ms) * 1_000_000n;
const copyOf = (bytes: Buffer) => Buffer.from(bytes);

function requestAt(ms: number, sums: number, histograms: number): Uint8Array {
  const dated = (i: number) => ({ labels: { user: `u${i}` }, start: at(0), time: at(ms) });
  const points = (n: number, of: (i: number) => Partial<PointData>) =>
    Array.from({ length: n }, (_, i): PointData => ({ ...dated(i), ...of(i) }));
  const counted = { count: 6n, sum: 6, buckets: [1n, 2n, 3n], bounds: [1, 10] };
  const metrics: MetricData[] = [
    {
      name: 'sum',
      unit: '1',
      kind: 'sum',
      temporality: 2,
      monotonic: true,
      points: points(sums, (i) => ({ int: BigInt(i + ms) })),
    },
    {
      name: 'histogram',
      unit: '1',
      kind: 'histogram',
      temporality: 2,
      points: points(histograms, () => counted),
    },
  ];
  return request(metrics.filter((metric) => metric.points.length > 0));
}

it('claims keep their bytes while their request is open and after it was undone: they may be in flight to Redis', () => {
  const { limiter } = ruledRig(['sum', 'histogram'], ['user']);
  const process = (ms: number) => limiter.process(requestAt(ms, 20, 20)).claim.sources;
  process(1000);
  limiter.keep();
  const [one, two] = [process(2000), process(3000)];
  const before = [one, two].map(copyOf);
  expect(before[0]).not.toEqual(before[1]);
  limiter.undo();
  process(4000);
  limiter.keep();
  process(5000);
  expect([one, two]).toEqual(before);
});

it('claims of many sizes, more than expected at first, stay intact', () => {
  const { limiter } = ruledRig(['sum', 'histogram'], ['user']);
  const claims = sourceClaims(limiter.process(requestAt(1000, 1, 200)).claim.sources);
  expect(claims).toHaveLength(201);
  expect(claims.map(({ field }) => field.length)).toEqual(claims.map(() => 8));
  expect(claims.map(({ value }) => value.length)).toEqual([37, ...Array(200).fill(37 + 8 * 5)]);
  for (const { value } of claims.slice(1))
    expect([0, 1, 2, 3, 4].map((i) => value.readDoubleLE(37 + 8 * i))).toEqual([6, 6, 1, 2, 3]);
});

it('claims that are packed again are identical', () => {
  const { limiter } = ruledRig(['sum', 'histogram'], ['user']);
  const { sources } = limiter.process(requestAt(1000, 3, 3)).claim;
  expect(packSourceClaims(sourceClaims(sources))).toEqual(sources);
  expect(packSourceClaims([])).toHaveLength(0);
});
