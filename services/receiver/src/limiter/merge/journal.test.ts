/** Requests that are prepared upon one another, and kept or undone in every way in which a step can end. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Limited, LimiterOptions } from '../index.ts';
import { decode, flat, type MetricData, type PointData, request } from '../test/otlp.ts';
import { ruledRig } from '../test/rig.ts';

const NAME = 'm';
const BOUNDS = [1, 10, 100];
type Form = 'sum' | 'histogram' | 'exponential';

/** Counts of one source, by bucket. Far apart, so that exponential histograms change their scale and the size of their blocks. */
class Source {
  readonly user: string;
  counts = [0n, 0n, 0n, 0n];
  start: bigint;

  constructor(user: string, start: bigint) {
    this.user = user;
    this.start = start;
  }

  point(form: Form, time: bigint): PointData {
    const dated = { labels: { user: this.user }, start: this.start, time };
    const count = this.counts.reduce((a, b) => a + b);
    if (form === 'sum') return { ...dated, int: count };
    const sum = Number(count);
    if (form === 'histogram') return { ...dated, count, sum, buckets: this.counts, bounds: BOUNDS };
    const used = this.counts.findLastIndex((n) => n > 0n);
    const positive = Array.from({ length: Math.max(0, used * 60 + 1) }, (_, i) =>
      i % 60 === 0 ? this.counts[i / 60]! : 0n,
    );
    return { ...dated, count, sum, scale: 3, zeroCount: 0n, positive: { offset: -7, counts: positive } };
  }
}

/** What each of some sources has counted more; nothing: a request with nothing of the kind in it. */
const adds = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.array(fc.tuple(fc.nat(7), fc.nat(3), fc.nat(4)), { minLength: 1, maxLength: 10 }),
  },
  { weight: 1, arbitrary: fc.constant<[number, number, number][]>([]) },
);

const step = fc.record({
  /** Prepared upon one another. */
  requests: fc.array(adds, { minLength: 1, maxLength: 4 }),
  /** So many are kept; the others are undone, and prepared again. */
  kept: fc.nat(4),
  /** What was undone may be true: the writer begins anew. */
  isLost: fc.boolean(),
});

const metricOf = (form: Form, points: PointData[]): MetricData => ({
  name: NAME,
  unit: '1',
  kind: form,
  temporality: 2,
  ...(form === 'sum' ? { monotonic: true } : {}),
  points,
});

/** What waits in Redis: changed by the claims of requests that are kept. */
class Waiting {
  #points = new Map<string, Buffer>();

  take({ claim }: Limited): void {
    if (claim.sends) this.#points.clear();
    for (let i = 0; i < claim.held.length; i += 2)
      this.#points.set(claim.held[i]!.toString('latin1'), claim.held[i + 1]!);
  }

  /** All of it, which is gone with that. */
  leave(): Buffer {
    const body = Buffer.concat([...this.#points.values()]);
    this.#points = new Map();
    return body;
  }

  get size(): number {
    return this.#points.size;
  }
}

const FORMS = ['sum', 'histogram', 'exponential'] as const;
const LEAVINGS: [leaving: string, options: Partial<LimiterOptions>][] = [
  ['with each request', {}],
  ['once per interval', { mergeIntervalMs: 7_000 }],
  ['once per interval, as deltas', { mergeIntervalMs: 7_000, mergedTemporality: 'delta' }],
];

it.each(LEAVINGS.flatMap(([leaving, options]) => FORMS.map((form) => ({ leaving, form, options }))))(
  '$form, $leaving: totals are right, however steps end',
  ({ form, options }) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const made = ruledRig([NAME], ['user'], options);
        const waiting = new Waiting();
        const sources = Array.from({ length: 8 }, (_, i) => new Source(`u${i}`, made.ns()));
        const totals = new Map<string, bigint>();
        const take = (body: Uint8Array) => {
          for (const point of flat(decode(body))) {
            if (!point.start) continue;
            const total = form === 'sum' ? point.int! : point.count!;
            const name = `${point.start}`;
            totals.set(name, point.metric.temporality === 1 ? total + (totals.get(name) ?? 0n) : total);
          }
        };
        const keep = (limited: Limited) => {
          made.limiter.keep();
          waiting.take(limited);
          take(limited.body);
        };
        let writer = 0;
        const bodyOf = (all: [number, number, number][]) => {
          made.now += 1000;
          for (const [at, bucket, n] of all) sources[at]!.counts[bucket]! += BigInt(n);
          const touched = [...new Set(all.map(([at]) => at))];
          const points = touched.map((at) => sources[at]!.point(form, made.ns()));
          const gauge: PointData = { labels: {}, double: 1, time: made.ns() };
          return request([
            points.length > 0 ? metricOf(form, points) : { name: 'other', kind: 'gauge', points: [gauge] },
          ]);
        };
        for (const { requests, kept, isLost } of steps) {
          const { limiter } = made;
          const bodies = requests.map(bodyOf);
          const first = bodies.map((body) => limiter.process(body));
          for (const limited of first.slice(0, kept)) keep(limited);
          limiter.undo();
          if (isLost) {
            limiter.beginWriter(0, made.now + ++writer, made.now, new Map());
            take(waiting.leave());
            limiter.held.forget();
          }
          for (const limited of bodies.slice(kept).map((body) => limiter.process(body))) keep(limited);
        }
        made.limiter.held.hurry();
        keep(made.limiter.process(Buffer.alloc(0)));
        expect(waiting.size).toBe(0);
        const expected = sources.reduce((sum, { counts }) => counts.reduce((a, b) => a + b, sum), 0n);
        const seen = [...totals.values()].reduce((a, b) => a + b, 0n);
        expect(seen).toBe(expected);
      }),
      { numRuns: 100 },
    );
  },
);
