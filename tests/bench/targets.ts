/** Each target of the design beside what was measured. */
import type { Measurement } from './measure.ts';
import { median } from './quantile.ts';
import type { Result } from './results.ts';
import { HEADLINE, ONE, SERVICES, SMALL, SPANS } from './suites.ts';

interface Target {
  what: string;
  wanted: string;
  /** Undefined where it was not measured. */
  reached: number | undefined;
  show: (value: number) => string;
  met: (value: number) => boolean;
}

const MIB = 1048576;
const CPU_LIMIT_MS = 40;
const RSS_LIMIT_MIB = 150;
const P99_LIMIT_MS = 50;
const P99_AIM_MS = 10;
const CEILING_RATIO = 3;
const REQUESTS_PER_CORE = 5_000;
const SPANS_OF_SMALL = 5;

/** Peers that keep what they acknowledge, by name, and what that means. */
const PEERS = {
  'Collector, file_storage': 'the Collector’s with its persistent queue',
  'Collector, file_storage, fsync': 'the same, fsynced as ours is',
};

/** The table of targets, in Markdown. */
export function targets(results: readonly Result[]): string {
  const rows = all(results).flatMap(({ what, wanted, reached, show, met }) =>
    reached === undefined ? [] : [[what, wanted, show(reached), met(reached) ? 'met' : '**not met**']],
  );
  return [
    '| target | wanted | measured | |',
    '| --- | ---: | ---: | --- |',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

function all(results: readonly Result[]): Target[] {
  const of = (suite: string, name: string, system: string, value: (m: Measurement) => number | undefined) => {
    const values = results
      .filter((r) => r.suite === suite && r.case === name && r.system === system)
      .flatMap(({ measurement }) => value(measurement) ?? []);
    return values.length === 0 ? undefined : median(values);
  };
  const headline = (system: string, value: (m: Measurement) => number | undefined) =>
    of('budget', HEADLINE, system, value);
  const atMost = (what: string, limit: number, unit: string, reached: number | undefined): Target => ({
    what,
    wanted: `≤ ${limit} ${unit}`,
    reached,
    show: (value) => `${value.toFixed(1)} ${unit}`,
    met: (value) => value <= limit,
  });
  const atLeast = (what: string, limit: number, unit: string, reached: number | undefined): Target => ({
    what,
    wanted: `≥ ${limit}${unit}`,
    reached,
    show: (value) => (unit === ' ×' ? `${value.toFixed(2)} ×` : `${Math.round(value)}${unit}`),
    met: (value) => value >= limit,
  });
  /** How many times as much CPU per item a peer takes. */
  const ratio = (suite: string, name: string, peer: string) => {
    const [mine, theirs] = [ONE, peer].map((system) => of(suite, name, system, (m) => m.cpuUsPerItem));
    return mine === undefined || theirs === undefined ? undefined : theirs / mine;
  };
  const p99 = headline(ONE, (m) => m.latency?.p99Ms);
  return [
    atMost(
      'CPU at 10,000 spans/s, one process with Redis (2 % of two cores)',
      CPU_LIMIT_MS,
      'ms/s',
      headline(ONE, (m) => m.cpuMsPerSecond),
    ),
    atMost(
      'resident memory of that',
      RSS_LIMIT_MIB,
      'MiB',
      headline(ONE, (m) => m.memory.total!.rss / MIB),
    ),
    atMost('p99 from due to upstream', P99_LIMIT_MS, 'ms', p99),
    atMost('the same, what it aims at', P99_AIM_MS, 'ms', p99),
    ...['receiver', 'scheduler', 'exporter', 'dlq'].map((service) =>
      atMost(
        `resident memory of the ${service} as a process of its own`,
        RSS_LIMIT_MIB,
        'MiB',
        headline(SERVICES, (m) => (m.memory[service]?.rss ?? 0) / MIB),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `CPU per span at 10,000 spans/s: ${words}, over ours`,
        1,
        ' ×',
        ratio('budget', HEADLINE, peer),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `CPU per span at the ceiling: ${words}, over ours`,
        CEILING_RATIO,
        ' ×',
        ratio('ceiling', SPANS, peer),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `the same in requests of ${SPANS_OF_SMALL} spans: ${words}, over ours`,
        CEILING_RATIO,
        ' ×',
        ratio('ceiling', SMALL, peer),
      ),
    ),
    atLeast(
      `requests of ${SPANS_OF_SMALL} spans per CPU-second of the receiver’s process`,
      REQUESTS_PER_CORE,
      '',
      of('ceiling', SMALL, SERVICES, (m) => requestsPerReceiverSecond(m, SPANS_OF_SMALL)),
    ),
  ];
}

/** Requests that the receiver's process takes in per second of its CPU time. */
export function requestsPerReceiverSecond(m: Measurement, batchSize: number): number | undefined {
  const { receiver } = m.cpu;
  return receiver ? (m.itemsPerSecond / batchSize / receiver) * 1000 : undefined;
}
