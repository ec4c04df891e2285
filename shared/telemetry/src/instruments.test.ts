import * as prom from 'prom-client';
import { describe, expect, it } from 'vitest';
import { Counter, Gauge, Histogram } from './instruments.ts';

const SIGNALS = ['traces', 'metrics', 'a "quoted"\\ line\n'];
const CLASSES = ['high', 'low', 7];
const BUCKETS = [0.005, 0.5, 1, 60];

describe('instruments', () => {
  it('are exposed like those of prom-client', async () => {
    const [here, theirs] = [new prom.Registry(), new prom.Registry()];
    const options = (name: string) => ({
      name,
      help: `Of ${name}.`,
      labelNames: ['signal', 'class'] as const,
    });
    const plain = (name: string) => ({ name, help: `Of ${name}.`, labelNames: [] as const });
    const registers = [theirs];
    const copied = (name: string) => ({ ...options(name), labelNames: ['signal', 'class'], registers });
    const pairs = {
      counter: [new Counter(options('a_total')), new prom.Counter(copied('a_total'))],
      gauge: [new Gauge(options('b')), new prom.Gauge(copied('b'))],
      histogram: [
        new Histogram({ ...options('c'), buckets: BUCKETS }),
        new prom.Histogram({ ...copied('c'), buckets: BUCKETS }),
      ],
      total: [
        new Counter(plain('d_total')),
        new prom.Counter({ ...plain('d_total'), labelNames: [], registers }),
      ],
      one: [
        new Histogram({ ...plain('e'), buckets: BUCKETS }),
        new prom.Histogram({ ...plain('e'), labelNames: [], buckets: BUCKETS, registers }),
      ],
    } as const;
    for (const [own] of Object.values(pairs)) here.registerMetric(own as unknown as prom.Metric);
    for (let at = 0; at < 200; at++) {
      const labels = { signal: SIGNALS[at % 3]!, class: CLASSES[Math.floor(at / 3) % 3]! };
      // On a bound, between two, above all.
      const value = [0.005, 0.25, 1, 61, 0][at % 5]!;
      for (const counter of pairs.counter) counter.inc(labels, at);
      for (const gauge of pairs.gauge) gauge.set(at % 2 ? labels : { signal: 'logs' }, value);
      for (const histogram of pairs.histogram) histogram.observe(labels, value);
      for (const counter of pairs.total) counter.inc();
      for (const histogram of pairs.one) histogram.observe(value);
    }
    // In which order a metric's labels are written says nothing.
    const lines = async (registry: prom.Registry) =>
      (await registry.metrics()).split('\n').map((line) => {
        const [, name, labels, value] = /^(\w+)\{(.*)\} (\S+)$/.exec(line) ?? [];
        return name ? `${name} ${labels!.split(',').sort().join()} ${value}` : line;
      });
    const written = await lines(here);
    expect(written.length).toBeGreaterThan(80);
    expect(written).toEqual(await lines(theirs));
  });

  it('reject invalid values and unknown labels', () => {
    const counter = new Counter({ name: 'a_total', help: 'A.', labelNames: ['signal'] });
    expect(() => counter.inc({ signal: 'logs' }, -1)).toThrow('a_total cannot count -1');
    expect(() => counter.inc(Number.NaN)).toThrow('a_total cannot count NaN');
    expect(() => counter.inc({ class: 'high' } as never)).toThrow('class is not a label of this metric');
    const histogram = new Histogram({ name: 'b', help: 'B.', labelNames: [], buckets: [1] });
    expect(() => histogram.observe(Number.POSITIVE_INFINITY)).toThrow('Infinity cannot be observed');
    const gauge = new Gauge({ name: 'c', help: 'C.', labelNames: [] });
    expect(() => gauge.set(undefined as never)).toThrow('c cannot be undefined');
  });
});
