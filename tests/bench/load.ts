/**
 * The load of a benchmark, as a process of its own: the testbed's generator with bodies made before the clock starts.
 * Takes a workload as JSON in its argument; prints a line when it is about to begin, and its report as JSON at the end.
 */
import { generate } from '@nrdot/testbed';
import { toMonotonicMs } from './clock.ts';

export interface LoadReport {
  items: number;
  batches: number;
  acknowledgedItems: number;
  /** Monotonic ms at which batch 0 was due. */
  startedAtMs: number;
  elapsedMs: number;
  retries: number;
  messages: string[];
  wireBytes: number;
  bodyBytes: number;
  /** From when a request was due to its 200, in ms. */
  ack: { p50Ms: number; p99Ms: number; p999Ms: number };
}

const report = await generate(JSON.parse(process.argv[2] ?? '{}'), {});
const { items, batches, acknowledgedItems, elapsedMs, retries, messages, wireBytes, bodyBytes } = report;
const { p50Ms, p99Ms, p999Ms } = report.latency;
const told: LoadReport = {
  ...{ items, batches, acknowledgedItems, elapsedMs, retries, messages, wireBytes, bodyBytes },
  startedAtMs: report.startedAtMs + toMonotonicMs(),
  ack: { p50Ms, p99Ms, p999Ms },
};
process.stdout.write(`${JSON.stringify(told)}\n`);
