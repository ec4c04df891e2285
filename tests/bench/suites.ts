/** Which loads are measured, and on which systems. */
import type { Case } from './measure.ts';
import type { System } from './systems.ts';

export interface Suite {
  title: string;
  /** What is measured, in a few words for the page. */
  about: string;
  cases(system: System): Case[];
}

/** The forms that are compared in every case: ours, and the peers that keep what they acknowledge. */
const compared = ({ name, durability }: System) =>
  name === 'NRDOT+ one process' || (name.startsWith('Collector') && durability !== 'in memory');

const HEADLINE: Case = {
  name: '20 requests/s × 500 spans, gzip',
  workload: { rate: 10_000, batchSize: 500, encoding: 'gzip' },
};

/** Closed loops send this many items; small requests are as many requests. */
const CEILING_ITEMS = 300_000;
const SMALL_ITEMS = 100_000;

export const SUITES: Record<string, Suite> = {
  budget: {
    title: 'The budget: 10,000 spans/s',
    about:
      'An open schedule at a fixed rate. "200 means" says what an acknowledged batch has been through: `fsynced` survives a power cut, `written` a kill of the process, `in memory` neither. Losing rows are shown as they are.',
    cases: (system) => [
      HEADLINE,
      ...(compared(system)
        ? [
            { name: '20 × 500, zstd', workload: { rate: 10_000, batchSize: 500, encoding: 'zstd' } } as Case,
            {
              name: '20 × 500, identity',
              workload: { rate: 10_000, batchSize: 500, encoding: 'identity' },
            } as Case,
            {
              name: '200 × 50, gzip',
              workload: { rate: 10_000, batchSize: 50, encoding: 'gzip', connections: 8 },
            } as Case,
            {
              name: '20 × 500, JSON',
              workload: { rate: 10_000, batchSize: 500, encoding: 'identity', format: 'json' },
            } as Case,
          ]
        : []),
    ],
  },
  ceiling: {
    title: 'The ceiling: closed loop',
    about:
      'A fixed number of items through a fixed number of connections, each sending again when it is answered. Generator and upstream share the cores with the system, so what counts is items per CPU-second.',
    cases: (system) => (compared(system) ? CEILING : []),
  },
};

const closed = { rate: 0, items: CEILING_ITEMS, batchSize: 500, connections: 8 };
const CEILING: Case[] = [
  { name: 'spans, 500 per request, gzip', workload: { ...closed, encoding: 'gzip' } },
  {
    name: 'log records, 500 per request, gzip',
    workload: { ...closed, encoding: 'gzip', signals: { logs: 1 } },
  },
  {
    name: 'data points, 500 per request, gzip',
    workload: { ...closed, encoding: 'gzip', signals: { metrics: 1 } },
  },
  {
    name: 'spans, 5 per request, identity',
    workload: { ...closed, items: SMALL_ITEMS, batchSize: 5, connections: 64, encoding: 'identity' },
  },
];
