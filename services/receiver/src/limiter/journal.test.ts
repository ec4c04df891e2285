/** Requests that are prepared upon one another, and kept or undone in every way in which a step can end. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decode, flat, type MetricData, type PointData, request } from './test/otlp.ts';
import { type Rig, ruledRig } from './test/rig.ts';

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

const step = fc.record({
  /** What each of some sources has counted more, for the two requests. */
  adds: fc.array(fc.tuple(fc.nat(7), fc.nat(3), fc.nat(4)), { minLength: 1, maxLength: 10 }),
  more: fc.array(fc.tuple(fc.nat(7), fc.nat(3), fc.nat(4)), { minLength: 1, maxLength: 10 }),
  /** The second one has nothing of the kind in it. */
  isOther: fc.boolean(),
  end: fc.constantFrom('both', 'second again', 'both again', 'lost', 'first alone'),
});

const metricOf = (form: Form, points: PointData[]): MetricData => ({
  name: NAME,
  unit: '1',
  kind: form,
  temporality: 2,
  ...(form === 'sum' ? { monotonic: true } : {}),
  points,
});

it.each(['sum', 'histogram', 'exponential'] as const)('%s: totals are right, however steps end', (form) => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      const made = ruledRig([NAME], ['user']);
      const sources = Array.from({ length: 8 }, (_, i) => new Source(`u${i}`, made.ns()));
      const kept = new Map<string, bigint>();
      const take = (body: Uint8Array) => {
        for (const point of flat(decode(body))) {
          if (!point.start) continue;
          const total = form === 'sum' ? point.int! : point.count!;
          kept.set(`${point.start}`, total);
        }
      };
      let writer = 0;
      for (const { adds, more, isOther, end } of steps) {
        const bodyOf = (all: [number, number, number][]) => {
          made.now += 1000;
          for (const [at, bucket, n] of all) sources[at]!.counts[bucket]! += BigInt(n);
          const touched = [...new Set(all.map(([at]) => at))];
          return request([
            metricOf(
              form,
              touched.map((at) => sources[at]!.point(form, made.ns())),
            ),
          ]);
        };
        const other = {
          name: 'other',
          kind: 'gauge',
          points: [{ labels: {}, double: 1, time: made.ns() }],
        } as const;
        const [first, second] = [
          bodyOf(adds),
          isOther ? request([{ ...other, points: [...other.points] }]) : bodyOf(more),
        ];
        settle(made, first, second, end, take, () => {
          made.limiter.beginWriter(0, made.now + ++writer, made.now, new Map());
        });
      }
      const expected = sources.reduce((sum, { counts }) => counts.reduce((a, b) => a + b, sum), 0n);
      const seen = [...kept.values()].reduce((a, b) => a + b, 0n);
      expect(seen).toBe(expected);
    }),
    { numRuns: 150 },
  );
});

function settle(
  { limiter }: Rig,
  first: Uint8Array,
  second: Uint8Array,
  end: string,
  take: (body: Uint8Array) => void,
  begin: () => void,
): void {
  const both = () => [limiter.process(first).body, limiter.process(second).body];
  const keepBoth = () => {
    for (const body of both()) {
      limiter.keep();
      take(body);
    }
  };
  if (end === 'both') keepBoth();
  else if (end === 'first alone') {
    take(limiter.process(first).body);
    limiter.keep();
    take(limiter.process(second).body);
    limiter.keep();
  } else if (end === 'second again') {
    const [kept] = both();
    limiter.keep();
    take(kept!);
    limiter.undo();
    take(limiter.process(second).body);
    limiter.keep();
  } else {
    both();
    limiter.undo();
    if (end === 'lost') begin();
    keepBoth();
  }
}
