/**
 * What it costs to count one event and to observe one value, here and with prom-client's own.
 * Run: node shared/telemetry/bench/instruments.bench.ts
 */
import * as prom from 'prom-client';
import * as own from '../src/instruments.ts';

const TIMES = 1_000_000;
const ROUNDS = 5;
const BUCKETS = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300];
const SIGNALS = ['traces', 'metrics', 'logs'];
const CLASSES = ['high', 'normal', 'low'];

function cpuNs(run: (at: number) => void): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    for (let at = 0; at < TIMES; at++) run(at);
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1_000) / TIMES;
  });
  return rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
}

const options = { name: 'a_total', help: 'A.', labelNames: ['signal', 'class'] as const };
const labelNames = [...options.labelNames];
const registers: prom.Registry[] = [];
const labelsAt = (at: number) => ({ signal: SIGNALS[at % 3]!, class: CLASSES[at % 2]! });
for (const [title, counter, histogram] of [
  ['here', new own.Counter(options), new own.Histogram({ ...options, buckets: BUCKETS })],
  [
    'prom-client',
    new prom.Counter({ ...options, labelNames, registers }),
    new prom.Histogram({ ...options, labelNames, registers, buckets: BUCKETS }),
  ],
] as const) {
  const inc = cpuNs((at) => counter.inc(labelsAt(at), 5));
  const observe = cpuNs((at) => histogram.observe(labelsAt(at), (at % 100) / 100));
  console.log(`${title}: ${inc.toFixed(0)} ns to count, ${observe.toFixed(0)} ns to observe`);
}
