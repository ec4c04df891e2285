import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LimiterOptions } from '../index.ts';
import {
  decode,
  encode,
  type FlatPoint,
  flat,
  type MetricData,
  type PointData,
  Request,
  streamOf,
  UnpackedRequest,
} from '../test/otlp.ts';
import { byStream, type Rig, ruledRig, START_MS, total } from '../test/rig.ts';

const MS = 1_000_000n;

/** Everything is sent under this metric; its label `user` has been given up, and `pod` of the resource where asked for. */
const NAME = 'm';

function metric(kind: MetricData['kind'], points: PointData[], change: Partial<MetricData> = {}): MetricData {
  const base = { name: NAME, unit: '1', kind, points };
  if (kind === 'gauge' || kind === 'summary') return { ...base, ...change };
  return { ...base, temporality: 1, ...(kind === 'sum' ? { monotonic: true } : {}), ...change };
}

const withoutUser = (point: FlatPoint): FlatPoint => {
  const { user: _, ...labels } = point.labels;
  return { ...point, labels };
};

const users = fc.integer({ min: 0, max: 6 }).map((i) => `u${i}`);
const routes = fc.constantFrom('/a', '/b', '/c');
const labels = fc.oneof(
  fc.record({ user: users, route: routes }),
  fc.record({ route: routes }),
  fc.record({ user: users }),
);

/** Sends each list of points as one request, one second apart; all that came out. */
function sendAll(
  made: Rig,
  kind: MetricData['kind'],
  requests: PointData[][],
  change: Partial<MetricData> = {},
) {
  const out: FlatPoint[] = [];
  let [dropped, aggregated, points] = [0, 0, 0];
  for (const list of requests) {
    made.now += 1000;
    const dated = list.map((point) => ({
      ...point,
      start: point.start ?? made.ns() - 1000n * MS,
      time: made.ns(),
    }));
    // Over two metrics, two scopes or two resources: where a point stands in a request must not matter.
    const half = dated.length >> 1;
    const resources = [dated.slice(0, half), dated.slice(half)].map((part) => ({
      labels: { s: '1' },
      scopes: [{ metrics: [metric(kind, part, change)] }],
    }));
    const body = encode(resources, made.now % 2000 === 0 ? Request : UnpackedRequest);
    const limited = made.limiter.process(body);
    const decoded = flat(decode(limited.body));
    expect(limited.points).toBe(decoded.length);
    dropped += limited.droppedPoints;
    aggregated += limited.aggregatedPoints;
    points += list.length;
    const streams = new Set(decoded.map(streamOf));
    expect(streams.size).toBe(decoded.length); // one point per stream
    out.push(...decoded);
  }
  expect(points).toBe(out.length + dropped + aggregated);
  return { out, dropped, aggregated };
}

const ruled = (options: Partial<LimiterOptions> = {}) => ruledRig([NAME], ['user'], options);

describe('delta streams that lose a label', () => {
  it('keep the totals of integers and doubles, per stream', () => {
    const point = fc.oneof(
      fc.record({ labels, int: fc.bigInt({ min: -1000n, max: 1000n }) }),
      fc.record({ labels, double: fc.integer({ min: -4000, max: 4000 }).map((n) => n / 4) }),
    );
    fc.assert(
      fc.property(fc.array(fc.array(point, { maxLength: 30 }), { maxLength: 5 }), (requests) => {
        const { out, dropped } = sendAll(ruled(), 'sum', requests, { monotonic: false });
        expect(dropped).toBe(0);
        const value = ({ int, double }: PointData) => (int === undefined ? double! : Number(int));
        const sum = (map: Map<string, number[]>) =>
          new Map([...map].map(([key, values]) => [key, values.reduce((a, b) => a + b, 0)]));
        const sent = flat([
          {
            labels: { s: '1' },
            scopes: [{ metrics: [metric('sum', requests.flat(), { monotonic: false })] }],
          },
        ]);
        const expected = sum(byStream(sent.map(withoutUser), value));
        expect(sum(byStream(out, value))).toEqual(expected);
        for (const point of out) expect(point.labels).not.toHaveProperty('user');
      }),
      { numRuns: 60 },
    );
  });

  it('keep int64 exact, and continue as double after an overflow', () => {
    const big = 2n ** 53n + 1n;
    const send = (a: bigint, b: bigint) =>
      sendAll(ruled(), 'sum', [
        [
          { labels: { user: 'a' }, int: a },
          { labels: { user: 'b' }, int: b },
        ],
      ]).out[0]!;
    expect(send(big, 2n).int).toBe(big + 2n);
    expect(send(-big, -2n).int).toBe(-big - 2n);
    expect(send(2n ** 63n - 2n, 1n).int).toBe(2n ** 63n - 1n);
    const over = send(2n ** 63n - 1n, 1n);
    expect(over.int).toBeUndefined();
    expect(over.double).toBe(2 ** 63);
  });

  it('cover the span from the earliest start to the latest time, and never overlap the point before', () => {
    const made = ruled();
    const at = (ms: number) => BigInt(START_MS + ms) * MS;
    const send = (spans: [number, number][]) =>
      made.send([
        metric(
          'sum',
          spans.map(([a, b], i) => ({ labels: { user: `${i}` }, int: 1n, start: at(a), time: at(b) })),
        ),
      ]).out[0]!;
    expect(
      send([
        [50, 110],
        [40, 100],
      ]),
    ).toMatchObject({ start: at(40), time: at(110) });
    expect(
      send([
        [110, 200],
        [100, 190],
      ]),
    ).toMatchObject({ start: at(110), time: at(200) });
    expect(send([[100, 150]])).toMatchObject({ start: at(200), time: at(201) }); // late: it has to come after
    expect(send([[250, 300]])).toMatchObject({ start: at(250), time: at(300) });
  });

  const bounds = [1, 5, 10];
  const observed = fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 8 });
  const histogramOf = (values: number[]): Partial<PointData> => ({
    count: BigInt(values.length),
    sum: values.reduce((a, b) => a + b, 0),
    buckets: [...bounds, Infinity].map((upper, i) =>
      BigInt(values.filter((v) => v <= upper && (i === 0 || v > bounds[i - 1]!)).length),
    ),
    bounds,
    ...(values.length > 0 ? { min: Math.min(...values), max: Math.max(...values) } : {}),
  });

  it('merge histograms to the histogram of all observations', () => {
    const point = fc.record({ labels, values: observed });
    fc.assert(
      fc.property(fc.array(point, { minLength: 1, maxLength: 30 }), (points) => {
        const sent = points.map(({ labels: own, values }) => ({ labels: own, ...histogramOf(values) }));
        const { out } = sendAll(ruled(), 'histogram', [sent]);
        const all = new Map<string, number[]>();
        for (const { labels: own, values } of points) {
          const key = 'route' in own ? own.route : '';
          all.set(key, [...(all.get(key) ?? []), ...values]);
        }
        expect(out.length).toBe(all.size);
        for (const merged of out) {
          const { buckets, count, sum, min, max } = merged;
          const expected = histogramOf(all.get(String(merged.labels.route ?? ''))!);
          expect({ buckets, count, sum, min, max, bounds: merged.bounds }).toEqual({
            min: undefined,
            max: undefined,
            ...expected,
          });
        }
      }),
      { numRuns: 60 },
    );
  });

  it('omit sum, min and max if not every part has them', () => {
    const point = (user: string, change: Partial<PointData>) => ({
      labels: { user },
      ...histogramOf([3, 4]),
      ...change,
    });
    const made = ruled();
    const [merged] = made.send([
      metric('histogram', [point('a', {}), point('b', { sum: undefined, min: undefined }), point('c', {})]),
    ]).out;
    expect(merged).toMatchObject({ count: 6n, max: 4 });
    expect(merged!.sum).toBeUndefined();
    expect(merged!.min).toBeUndefined();
  });

  it('send histograms with different bounds side by side instead of merging them', () => {
    const point = (user: string, own: number[]) => ({
      labels: { user },
      count: 2n,
      sum: 2,
      buckets: Array(own.length + 1)
        .fill(0n)
        .fill(2n, 0, 1),
      bounds: own,
    });
    const list = [point('a', [1, 2]), point('b', [1, 3]), point('c', [1, 2]), point('d', [1])];
    const { out } = ruled().send([metric('histogram', list)]);
    expect(out.map(({ bounds: own, count }) => [own, count])).toEqual([
      [[1, 2], 4n],
      [[1, 3], 2n],
      [[1], 2n],
    ]);
  });
});

describe('other kinds that lose a label', () => {
  it('reduce gauges as configured', () => {
    const values: [number, bigint][] = [
      [3, 20n],
      [9, 30n],
      [-4, 10n],
    ];
    const reduced = (gaugeReducer: LimiterOptions['gaugeReducer'], int: boolean) => {
      const points = values.map(([v, time], i) => ({
        labels: { user: `${i}` },
        ...(int ? { int: BigInt(v) } : { double: v }),
        time,
      }));
      const [point] = ruled({ gaugeReducer }).send([metric('gauge', points)]).out;
      expect(point!.time).toBe(30n);
      return point!.int ?? point!.double;
    };
    expect(reduced('last', true)).toBe(9n);
    expect(reduced('min', true)).toBe(-4n);
    expect(reduced('max', true)).toBe(9n);
    expect(reduced('sum', true)).toBe(8n);
    expect(reduced('mean', false)).toBeCloseTo(8 / 3);
    expect(reduced('last', false)).toBe(9);
    expect(reduced('min', false)).toBe(-4);
  });

  it('reduce gauges across sources, never over time', () => {
    const at = (user: string, int: bigint, time: bigint): PointData => ({ labels: { user }, int, time });
    const reduced = (points: PointData[]) =>
      ruled({ gaugeReducer: 'sum' })
        .send([metric('gauge', points)])
        .out.map(({ int, time }) => [int, time]);
    expect(reduced([at('a', 10n, 1n), at('a', 20n, 2n), at('a', 30n, 3n)])).toEqual([
      [10n, 1n],
      [20n, 2n],
      [30n, 3n],
    ]);
    expect(reduced([at('a', 10n, 1n), at('b', 1n, 1n), at('a', 20n, 2n), at('b', 2n, 3n)])).toEqual([
      [11n, 1n],
      [22n, 3n],
    ]);
  });

  it('drop summaries that lose a label, with the reason, and let the others pass', () => {
    const points: PointData[] = [
      { labels: { user: 'a' }, count: 1n },
      { labels: { route: '/' }, count: 1n },
    ];
    const limited = ruled().send([metric('summary', points)]);
    expect(limited.dropped).toEqual([{ metric: NAME, label: 'user', reason: 'unmergeable', count: 1 }]);
    expect(limited.out.map(({ labels: own }) => own)).toEqual([{ route: '/' }]);
  });

  it('never merge across unit, type, temporality or monotonicity', () => {
    const points = (v: bigint) => [
      { labels: { user: 'a' }, int: v, start: 1n, time: 9n },
      { labels: { user: 'b' }, int: v, start: 1n, time: 9n },
    ];
    const { out } = ruled().send([
      metric('sum', points(1n)),
      metric('sum', points(2n), { unit: 's' }),
      metric('sum', points(4n), { monotonic: false }),
      metric('sum', points(16n), { temporality: 2, monotonic: false }),
      metric('gauge', points(32n)),
    ]);
    expect(out.map(({ int }) => int)).toEqual([2n, 4n, 8n, 32n, 32n]);
  });

  it('discard staleness markers', () => {
    const limited = ruled().send([
      metric('sum', [
        { labels: { user: 'a' }, flags: 1, time: 5n },
        { labels: { user: 'b' }, int: 7n, time: 5n },
        { labels: { user: 'c' }, flags: 1, int: 99n, time: 5n }, // what is beside the flag is no value
      ]),
    ]);
    expect(limited.out.map(({ int }) => int)).toEqual([7n]);
    expect(limited.aggregatedPoints).toBe(2);
  });

  it('keep a few exemplars, and unknown fields of the first point', () => {
    const points = Array.from({ length: 9 }, (_, i) => ({
      labels: { user: `${i}`, route: '/' },
      double: 1,
      time: 5n,
      exemplars: [i, i + 0.5],
    }));
    expect(ruled().send([metric('sum', points)]).out[0]).toMatchObject({
      double: 9,
      exemplars: [0, 0.5, 1, 1.5],
    });

    const made = ruled();
    const point = (user: number, ...extra: number[]) => {
      const attribute = [0x3a, 11, 0x0a, 4, 0x75, 0x73, 0x65, 0x72, 0x12, 3, 0x0a, 1, user];
      const content = [...attribute, 0x31, 5, 0, 0, 0, 0, 0, 0, 0, ...extra];
      return [0x0a, content.length, ...content];
    };
    const unknown = [0xa2, 0x06, 2, 0x68, 0x69]; // field 100
    const data = [...point(0x61, ...unknown), ...point(0x62), 0x10, 1];
    const content = [0x0a, 1, 0x6d, 0x3a, data.length, ...data, ...unknown];
    const scope = [0x12, content.length, ...content, ...unknown];
    const resource = [0x12, scope.length, ...scope];
    const out = made.limiter.process(Uint8Array.from([0x0a, resource.length, ...resource])).body;
    expect(flat(decode(out))).toMatchObject([{ int: 10n, labels: {} }]);
    expect(Buffer.from(out).toString('latin1').split('\xa2\x06\x02hi').length).toBe(4);
  });

  it('leave a point unchanged if it loses nothing and nothing is merged into it', () => {
    const made = ruled();
    const body = encode([
      {
        labels: {},
        scopes: [{ metrics: [metric('sum', [{ labels: { route: '/' }, int: 1n, start: 1n, time: 2n }])] }],
      },
    ]);
    expect(made.limiter.process(body).body).toBe(body);
  });
});

describe('stripped labels of resources', () => {
  const resource = (pod: string, points: PointData[], kind: MetricData['kind'] = 'sum') => ({
    labels: { service: 'shop', pod },
    schemaUrl: 'https://example.org/schema',
    scopes: [
      {
        name: 'lib',
        metrics: [metric(kind, points), { ...metric('gauge', [{ labels: {}, int: 1n }]), name: 'other' }],
      },
    ],
  });

  function podRig(): Rig {
    const made = ruledRig([], [], { aggregateLabels: ['pod'] });
    for (let i = 0; i < 300; i++) {
      made.now += 10;
      const warm = { labels: { warm: '1' }, double: 1, time: made.ns() };
      made.limiter.process(
        encode([
          { labels: { service: 'warm', pod: `p${i}` }, scopes: [{ metrics: [metric('gauge', [warm])] }] },
        ]),
      );
    }
    expect(made.decisions).toMatchObject([{ kind: 'aggregate', label: 'pod', metric: NAME }]);
    return made;
  }

  it('move the points to a resource without them; other metrics stay', () => {
    const made = podRig();
    const points = (v: bigint) => [
      { labels: { route: '/a' }, int: v, start: 1n, time: 5n },
      { labels: { route: '/b' }, int: v, start: 1n, time: 5n },
    ];
    const limited = made.limiter.process(encode([resource('p1', points(1n)), resource('p2', points(10n))]));
    const out = decode(limited.body);
    expect(out.map(({ labels: own, schemaUrl }) => [own, schemaUrl])).toEqual([
      [{ service: 'shop', pod: 'p1' }, 'https://example.org/schema'],
      [{ service: 'shop', pod: 'p2' }, 'https://example.org/schema'],
      [{ service: 'shop' }, 'https://example.org/schema'],
    ]);
    const moved = flat(out).filter((point) => point.metric.name === NAME);
    expect(moved.map(({ int, labels: own, scope }) => [int, own, scope])).toEqual([
      [11n, { route: '/a' }, 'lib'],
      [11n, { route: '/b' }, 'lib'],
    ]);
    expect(limited).toMatchObject({ points: 4, aggregatedPoints: 2 });
  });
});

describe('a storm of one label', () => {
  it('is reduced to a few streams with the same total', () => {
    const made = ruled({ maxKeys: 4096 });
    const values = Array.from({ length: 500 }, (_, i) => ({
      labels: { user: `${i}`, route: `/${i % 5}` },
      int: BigInt(i),
    }));
    const { out } = sendAll(made, 'sum', [values, values]);
    expect(total(out.map(({ int }) => int))).toBe(2n * total(values.map(({ int }) => int)));
  });
});
