/** Each target of the design beside what was measured. */
import { type Measurement, quantile } from './measure.ts';
import type { Result } from './run.ts';

interface Target {
  what: string;
  suite: string;
  case: string;
  system: string;
  of(m: Measurement): number;
  limit: number;
  unit: string;
  /** Whether more is better. */
  atLeast?: boolean;
}

const MIB = 1048576;
const HEADLINE = { suite: 'budget', case: '20 requests/s × 500 spans, gzip' };
const ONE = 'NRDOT+ one process';
const service = (name: string): Target => ({
  what: `RSS of the ${name} as a process of its own`,
  ...HEADLINE,
  system: 'NRDOT+ four services',
  of: (m) => (m.memory[name]?.rss ?? 0) / MIB,
  limit: 150,
  unit: 'MiB',
});

const TARGETS: Target[] = [
  {
    what: 'CPU, one process with Redis',
    ...HEADLINE,
    system: ONE,
    of: (m) => m.cpuMsPerSecond,
    limit: 40,
    unit: 'ms/s',
  },
  {
    what: 'RSS, one process with Redis',
    ...HEADLINE,
    system: ONE,
    of: (m) => m.memory.total!.rss / MIB,
    limit: 150,
    unit: 'MiB',
  },
  {
    what: 'p99 from due to upstream',
    ...HEADLINE,
    system: ONE,
    of: (m) => m.latency.p99Ms,
    limit: 50,
    unit: 'ms',
  },
  ...['receiver', 'scheduler', 'exporter', 'dlq'].map(service),
];

/** Ratios to a peer: how many times fewer CPU per item. */
const PEER = 'Collector, file_storage';
const RATIOS = [
  {
    what: "spans per CPU-second, closed loop, over the Collector's with its persistent queue",
    suite: 'ceiling',
    case: 'spans, 500 per request, gzip',
    limit: 3,
  },
  { what: 'the same in small requests', suite: 'ceiling', case: 'spans, 5 per request, identity', limit: 3 },
];
/** Small requests that one core of the receiver's process must carry in a second. */
const SMALL_REQUESTS = { case: 'spans, 5 per request, identity', perRequest: 5, limit: 5_000 };

export function targets(results: readonly Result[]): string {
  const median = (suite: string, name: string, system: string, of: (m: Measurement) => number) => {
    const rows = results.filter((r) => r.suite === suite && r.case === name && r.system === system);
    return rows.length === 0
      ? undefined
      : quantile(
          rows.map((r) => of(r.measurement)),
          0.5,
        );
  };
  const rows: string[][] = TARGETS.flatMap((target) => {
    const reached = median(target.suite, target.case, target.system, target.of);
    if (reached === undefined) return [];
    return [
      [
        target.what,
        `≤ ${target.limit} ${target.unit}`,
        `${reached.toFixed(1)} ${target.unit}`,
        met(reached <= target.limit),
      ],
    ];
  });
  for (const { what, suite, case: name, limit } of RATIOS) {
    for (const peer of [PEER, `${PEER}, fsync`]) {
      const ours = median(suite, name, ONE, (m) => m.cpuUsPerItem);
      const theirs = median(suite, name, peer, (m) => m.cpuUsPerItem);
      if (ours === undefined || theirs === undefined) continue;
      const ratio = theirs / ours;
      rows.push([
        `${what}${peer === PEER ? '' : ', fsynced'}`,
        `≥ ${limit} ×`,
        `${ratio.toFixed(2)} ×`,
        met(ratio >= limit),
      ]);
    }
  }
  const small = median(
    'ceiling',
    SMALL_REQUESTS.case,
    ONE,
    (m) => 1e6 / (m.cpuUsPerItem * SMALL_REQUESTS.perRequest),
  );
  if (small !== undefined) {
    rows.push([
      'small requests per CPU-second, the whole pipeline and Redis',
      `≥ ${SMALL_REQUESTS.limit}`,
      small.toFixed(0),
      met(small >= SMALL_REQUESTS.limit),
    ]);
  }
  return [
    '| target | wanted | measured | |',
    '| --- | ---: | ---: | --- |',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

function met(yes: boolean): string {
  return yes ? 'met' : '**not met**';
}
