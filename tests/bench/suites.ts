/** Which loads are measured, and on which systems. */
import type { Case } from './measure.ts';
import type { System } from './system.ts';

export interface Suite {
  title: string;
  /** What is measured, in a few words for the page. */
  about: string;
  /** Whether requests are due at times, or each sender waits for its answer, or nobody sends. */
  schedule: 'open' | 'closed' | 'idle';
  cases: LoadCase[];
}

export interface LoadCase extends Case {
  /** The names of the systems it runs on. */
  systems: (system: System) => boolean;
  /** Those that it runs on when only the headline is wanted. */
  headline?: readonly string[];
}

export const ONE = 'NRDOT+ one process';
export const SERVICES = 'NRDOT+ four services';
export const MEMORY = 'Collector, memory queue';
export const ROTEL = 'Rotel';
export const ROTEL_BATCHING = 'Rotel, batching';
const VMAGENT = 'vmagent, remote write out';

/** Behind a batch processor, which acknowledges from memory, a queue on disk promises nothing: one form of that is enough. */
const spans: LoadCase['systems'] = ({ name, signals }) =>
  signals === undefined && !/file_storage.*batch processor/.test(name);
/** The forms that are compared in every case: ours, and the peers that keep what they acknowledge. */
const durable: LoadCase['systems'] = ({ name, durability }) =>
  name === ONE || (name.startsWith('Collector') && durability !== 'in memory');
const ours: LoadCase['systems'] = ({ name }) => name === ONE || name === SERVICES;
const withMetrics: LoadCase['systems'] = (system) => durable(system) || system.name === VMAGENT;
/** Those that answer from memory: what a batch costs without a disk. */
const fromMemory = [MEMORY, ROTEL, ROTEL_BATCHING];
const all: LoadCase['systems'] = (system) => durable(system) || fromMemory.includes(system.name);
const small: LoadCase['systems'] = (system) => all(system) || system.name === SERVICES;

const rate = 10_000;
/** Cases beside the main ones, which say what another form of the same load costs. */
const SHORT = { seconds: { warmUp: 2, measured: 6 }, repetitions: 1 };
const CLOSED = { seconds: { warmUp: 2, measured: 5 } };
/** What peers and we make of a gauge is one sample each, which a histogram is not. */
const gauges = { signals: { metrics: 1 }, metricKinds: { gauge: 1 } };

/** Most items of a closed loop: their bodies are made before it starts. */
const closed = { rate: 0, items: 600_000, batchSize: 500, connections: 8, encoding: 'gzip' } as const;
const tiny = (batchSize: number) =>
  ({ rate: 0, items: batchSize * 50_000, batchSize, connections: 64, encoding: 'identity' }) as const;

export const HEADLINE = '20 requests/s × 500 spans, gzip';
export const SPANS = 'spans, 500 per request, gzip';
export const SMALL = 'spans, 5 per request, identity';
export const IDLE = 'left alone';

export const SUITES: Record<string, Suite> = {
  budget: {
    title: 'The budget: 10,000 spans/s',
    about:
      'An open schedule at a fixed rate. "200 means" says what an acknowledged batch has been through: `fsynced` survives a power cut, `written` a kill of the process, `in memory` neither.',
    schedule: 'open',
    cases: [
      {
        name: HEADLINE,
        systems: spans,
        headline: [ONE, SERVICES, ...fromMemory],
        workload: { rate, batchSize: 500, encoding: 'gzip' },
      },
      {
        name: '20 × 500 spans, zstd',
        systems: durable,
        ...SHORT,
        workload: { rate, batchSize: 500, encoding: 'zstd' },
      },
      {
        name: '20 × 500 spans, identity',
        systems: durable,
        ...SHORT,
        workload: { rate, batchSize: 500, encoding: 'identity' },
      },
      {
        name: '200 × 50 spans, gzip',
        systems: durable,
        ...SHORT,
        workload: { rate, batchSize: 50, encoding: 'gzip', connections: 8 },
      },
      {
        name: '20 × 500 spans, JSON',
        systems: durable,
        ...SHORT,
        workload: { rate, batchSize: 500, encoding: 'identity', format: 'json' },
      },
      {
        name: '20 × 500 data points (gauges), gzip',
        systems: withMetrics,
        ...SHORT,
        workload: { rate, batchSize: 500, encoding: 'gzip', ...gauges },
      },
    ],
  },
  ceiling: {
    title: 'The ceiling: closed loop',
    about:
      'A fixed number of connections, each sending again when it is answered: 8 of large requests, 64 of small ones. Generator and upstream share the cores with the system, so what counts is items per CPU-second.',
    schedule: 'closed',
    cases: [
      { name: SPANS, systems: all, headline: [ONE, MEMORY, ROTEL], ...CLOSED, workload: closed },
      {
        name: 'log records, 500 per request, gzip',
        systems: durable,
        ...CLOSED,
        repetitions: 1,
        workload: { ...closed, signals: { logs: 1 } },
      },
      {
        name: 'data points, 500 per request, gzip',
        systems: durable,
        ...CLOSED,
        repetitions: 1,
        workload: { ...closed, signals: { metrics: 1 } },
      },
      { name: 'spans, 1 per request, identity', systems: ours, ...SHORT, workload: tiny(1) },
      { name: SMALL, systems: small, headline: [ONE, ...fromMemory], ...CLOSED, workload: tiny(5) },
      { name: 'spans, 10 per request, identity', systems: ours, ...SHORT, workload: tiny(10) },
    ],
  },
  idle: {
    title: 'Idle',
    about:
      'Started, loaded for a few seconds, then left alone: what is spent while nothing comes in, on all processes of a system.',
    schedule: 'idle',
    cases: [
      {
        name: IDLE,
        systems: ({ name }) => [ONE, SERVICES, MEMORY, ROTEL].includes(name),
        seconds: { warmUp: 3, measured: 20 },
        repetitions: 1,
        workload: { rate: 0, batchSize: 500, encoding: 'gzip' },
      },
    ],
  },
};
