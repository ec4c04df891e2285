/**
 * What it costs a process to tell its metrics as OTLP: CPU of one request (values read, written, compressed), and what that is per second
 * at the default interval: `node shared/service/bench/own-metrics.bench.ts`
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { CATALOGUE, labelSets, type MetricSpec, MetricsRegistry } from '@nrdot/telemetry';
import { OwnMetrics } from '../src/own-metrics.ts';

interface Instrument {
  observe(labels: object, value: number): void;
  inc(labels: object, by: number): void;
  set(labels: object, value: number): void;
}

const ROUNDS = 300;
const INTERVAL_S = 60;
const registry = new MetricsRegistry(['receiver', 'scheduler', 'exporter', 'dlq']);
// Every series that can be known beforehand has counted: more than a process ever has.
const instruments = registry.metrics as unknown as Record<string, Instrument>;
for (const [key, { name, type, labels }] of Object.entries<MetricSpec>(CATALOGUE)) {
  const instrument = instruments[key]!;
  for (const set of labelSets(name, labels) ?? []) {
    if (type === 'histogram') instrument.observe(set, 0.02);
    else if (type === 'gauge') instrument.set(set, 1);
    else instrument.inc(set, 1);
  }
}

async function cpuMs(rounds: number, temporality: 'cumulative' | 'delta'): Promise<string> {
  const own = new OwnMetrics({
    resource: { 'service.name': 'nrdot' },
    scope: { name: 'nrdot', version: '0' },
    temporality,
    startedAtMs: Date.now(),
  });
  let sizes = '';
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) {
    const { body, points, delivered } = own.request(await registry.families(), Date.now());
    const packed = await promisify(gzip)(body);
    delivered();
    sizes = `${points} points, ${body.byteLength} bytes, ${packed.byteLength} as gzip`;
  }
  const { user, system } = process.cpuUsage(before);
  const ms = (user + system) / 1000 / rounds;
  return `${temporality}: ${ms.toFixed(2)} ms of CPU for a request (${sizes}), ${(ms / INTERVAL_S).toFixed(3)} ms/s every ${INTERVAL_S} s`;
}

console.log(`the first, ${await cpuMs(1, 'delta')}`);
await cpuMs(ROUNDS, 'delta'); // compiled
for (const temporality of ['cumulative', 'delta'] as const) console.log(await cpuMs(ROUNDS, temporality));
