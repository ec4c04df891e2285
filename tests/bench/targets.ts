/** What is wanted beside what was measured: what the project aims at, and the bounds of the design. */
import type { Measurement } from './measure.ts';
import { median } from './quantile.ts';
import type { Result } from './results.ts';
import { HEADLINE, IDLE, MEMORY, ONE, ROTEL, ROTEL_BATCHING, SERVICES, SMALL, SPANS } from './suites.ts';

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
const CEILING_RATIO = 3;
const REQUESTS_PER_CORE = 5_000;
const SPANS_OF_SMALL = 5;
const FOUR = ['receiver', 'scheduler', 'exporter', 'dlq'];

/** What the project aims at. Ratios are of CPU per item, ours over theirs. */
const AIM = {
  oneOverRotel: 0.85,
  oneOverCollector: 0.4,
  servicesOverCollector: 0.55,
  smallOverRotel: 0.8,
  oneRssMiB: 125,
  servicesRssMiB: 340,
  serviceRssMiB: 90,
  p99Ms: 10,
  idleMsPerSecond: 3,
};

/** Peers that keep what they acknowledge, by name, and what that means. */
const PEERS = {
  'Collector, file_storage': 'the Collector’s with its persistent queue',
  'Collector, file_storage, fsync': 'the same, fsynced as ours is',
};

/** The tables of what is aimed at and of the design's bounds, in Markdown. */
export function targets(results: readonly Result[]): string {
  const reading = new Reading(results);
  const [wanted, bound] = [aims(reading), bounds(reading)].map(table);
  return [wanted, ...(bound ? ['The bounds of the design:', bound] : [])].filter(Boolean).join('\n\n');
}

/** What is aimed at: name, wanted, measured, and whether it is met; what was not measured is left out. */
export function aimed(reading: Reading): string[][] {
  return rowsOf(aims(reading));
}

function rowsOf(all: readonly Target[]): string[][] {
  return all.flatMap(({ what, wanted, reached, show, met }) =>
    reached === undefined ? [] : [[what, wanted, show(reached), met(reached) ? 'met' : '**not met**']],
  );
}

function table(all: readonly Target[]): string {
  const rows = rowsOf(all);
  if (rows.length === 0) return '';
  return [
    '| target | wanted | measured | |',
    '| --- | ---: | ---: | --- |',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

/** Medians of the results; undefined where something was not measured. */
export class Reading {
  readonly #results: readonly Result[];

  constructor(results: readonly Result[]) {
    this.#results = results;
  }

  of(suite: string, name: string, system: string, value: (m: Measurement) => number | undefined) {
    const values = this.#results
      .filter((r) => r.suite === suite && r.case === name && r.system === system)
      .flatMap(({ measurement }) => value(measurement) ?? []);
    return values.length === 0 ? undefined : median(values);
  }

  headline(system: string, value: (m: Measurement) => number | undefined) {
    return this.of('budget', HEADLINE, system, value);
  }

  /** CPU per item of one system over that of another. */
  ratio(suite: string, name: string, above: string, below: string): number | undefined {
    const [a, b] = [above, below].map((system) => this.of(suite, name, system, (m) => m.cpuUsPerItem));
    return a === undefined || b === undefined ? undefined : a / b;
  }
}

function atMost(what: string, limit: number, unit: string, reached: number | undefined): Target {
  return {
    what,
    wanted: `≤ ${limit} ${unit}`,
    reached,
    show: (value) => `${value.toFixed(unit === '×' ? 2 : 1)} ${unit}`,
    met: (value) => value <= limit,
  };
}

function atLeast(what: string, limit: number, unit: string, reached: number | undefined): Target {
  return {
    what,
    wanted: `≥ ${limit}${unit}`,
    reached,
    show: (value) => (unit === ' ×' ? `${value.toFixed(2)} ×` : `${Math.round(value)}${unit}`),
    met: (value) => value >= limit,
  };
}

function aims(reading: Reading): Target[] {
  const budget = (system: string, peer: string) => reading.ratio('budget', HEADLINE, system, peer);
  const rss = (system: string) => reading.headline(system, (m) => m.memory.total!.rss / MIB);
  // Both forms of Rotel: batching costs it less where requests are small, and more where they are not.
  const overRotel = (what: string, limit: number, ratio: (peer: string) => number | undefined) => [
    atMost(`${what}, one process over Rotel in memory`, limit, '×', ratio(ROTEL)),
    atMost('the same, over Rotel that batches', limit, '×', ratio(ROTEL_BATCHING)),
  ];
  return [
    ...overRotel('CPU at 10,000 spans/s', AIM.oneOverRotel, (peer) => budget(ONE, peer)),
    atMost(
      'CPU at 10,000 spans/s, one process over the Collector in memory',
      AIM.oneOverCollector,
      '×',
      budget(ONE, MEMORY),
    ),
    atMost(
      'CPU at 10,000 spans/s, four services over the Collector in memory',
      AIM.servicesOverCollector,
      '×',
      budget(SERVICES, MEMORY),
    ),
    ...overRotel(
      `CPU per span at the ceiling in requests of ${SPANS_OF_SMALL} spans`,
      AIM.smallOverRotel,
      (peer) => reading.ratio('ceiling', SMALL, ONE, peer),
    ),
    atMost('resident memory of one process with Redis', AIM.oneRssMiB, 'MiB', rss(ONE)),
    atMost('resident memory of four services with Redis', AIM.servicesRssMiB, 'MiB', rss(SERVICES)),
    atMost(
      'resident memory of the largest of the four',
      AIM.serviceRssMiB,
      'MiB',
      reading.headline(SERVICES, (m) => Math.max(...FOUR.map((name) => m.memory[name]?.rss ?? 0)) / MIB),
    ),
    atMost(
      'p99 from due to upstream, one process',
      AIM.p99Ms,
      'ms',
      reading.headline(ONE, (m) => m.latency?.p99Ms),
    ),
    atMost(
      'CPU of one process with Redis that is left alone',
      AIM.idleMsPerSecond,
      'ms/s',
      reading.of('idle', IDLE, ONE, (m) => m.cpuMsPerSecond),
    ),
  ];
}

function bounds(reading: Reading): Target[] {
  return [
    atMost(
      'CPU at 10,000 spans/s, one process with Redis (2 % of two cores)',
      CPU_LIMIT_MS,
      'ms/s',
      reading.headline(ONE, (m) => m.cpuMsPerSecond),
    ),
    atMost(
      'resident memory of that',
      RSS_LIMIT_MIB,
      'MiB',
      reading.headline(ONE, (m) => m.memory.total!.rss / MIB),
    ),
    atMost(
      'p99 from due to upstream',
      P99_LIMIT_MS,
      'ms',
      reading.headline(ONE, (m) => m.latency?.p99Ms),
    ),
    ...FOUR.map((service) =>
      atMost(
        `resident memory of the ${service} as a process of its own`,
        RSS_LIMIT_MIB,
        'MiB',
        reading.headline(SERVICES, (m) => (m.memory[service]?.rss ?? 0) / MIB),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `CPU per span at 10,000 spans/s: ${words}, over ours`,
        1,
        ' ×',
        reading.ratio('budget', HEADLINE, peer, ONE),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `CPU per span at the ceiling: ${words}, over ours`,
        CEILING_RATIO,
        ' ×',
        reading.ratio('ceiling', SPANS, peer, ONE),
      ),
    ),
    ...Object.entries(PEERS).map(([peer, words]) =>
      atLeast(
        `the same in requests of ${SPANS_OF_SMALL} spans: ${words}, over ours`,
        CEILING_RATIO,
        ' ×',
        reading.ratio('ceiling', SMALL, peer, ONE),
      ),
    ),
    atLeast(
      `requests of ${SPANS_OF_SMALL} spans per CPU-second of the receiver’s process`,
      REQUESTS_PER_CORE,
      '',
      reading.of('ceiling', SMALL, SERVICES, (m) => requestsPerReceiverSecond(m, SPANS_OF_SMALL)),
    ),
  ];
}

/** Requests that the receiver's process takes in per second of its CPU time. */
export function requestsPerReceiverSecond(m: Measurement, batchSize: number): number | undefined {
  const { receiver } = m.cpu;
  return receiver ? (m.itemsPerSecond / batchSize / receiver) * 1000 : undefined;
}
