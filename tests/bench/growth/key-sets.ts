import { setTimeout as sleep } from 'node:timers/promises';
import { nextRun } from '../measure.ts';
import { cpuNow, memoryNow } from '../sampler.ts';
import type { RunningSystem } from '../system.ts';
import { onePipeline } from '../systems.ts';
import { send } from '../upstream.ts';
import { form, type Growth, type Stand, short, spentMs } from './growth.ts';

const PROBE_POINTS = 100_000;
const BATCH = 1_000;
/** Points of one run of the load generator. */
const MOST_AT_ONCE = 1_000_000;
const SETTLE_MS = 500;
const MIB = 1048576;

export const keySets: Growth = {
  title: 'Key-sets seen',
  about:
    'Delta sums come in as fast as they are answered, every point with a key-set of its own, until so many were seen. Then 100,000 points more, and as many of 1,000 known key-sets. HTTP and the queue are in the cost. Beyond 65,536 key-sets the limiter acts; from there the table is full and stays as large as it is. Memory grows to there and no further, and the cost of a point should stay flat.',
  x: 'key-sets seen',
  show: short,
  scale: 'log',
  charts: [
    {
      name: 'cost',
      title: 'CPU per point, Redis included',
      unit: 'µs',
      lines: { freshUs: 'new key-sets', knownUs: '1,000 known ones' },
    },
    { name: 'memory', title: 'Resident memory', unit: 'MiB', lines: { nodeMiB: 'Node', redisMiB: 'Redis' } },
  ],
  points: [1_000, 10_000, 100_000, 1_000_000],
  seconds: 50,
  long: { points: [10_000_000], seconds: 150 },
  run: steps,
};

async function* steps({ dir, sink, say }: Stand, points: readonly number[]) {
  const system = await onePipeline(form()).start(dir, sink.url);
  try {
    let seen = 0;
    let seed = 1;
    const fresh = async (points: number) => {
      seen += points;
      return probe(system, points, { seed: ++seed, cardinality: points });
    };
    await known(system); // warms it up
    for (const size of points) {
      // A probe of its own for new ones needs as many as that: below, the request costs more than its points.
      const probed = size >= PROBE_POINTS;
      const until = size - (probed ? PROBE_POINTS : 0);
      while (until - seen >= BATCH) await fresh(Math.min(MOST_AT_ONCE, until - seen));
      const freshUs = probed ? await fresh(PROBE_POINTS) : undefined;
      const knownUs = await known(system);
      await sleep(SETTLE_MS);
      const memory = memoryNow(system.roots);
      const values = {
        knownUs,
        ...(freshUs === undefined ? {} : { freshUs }),
        nodeMiB: (memory['nrdot up']?.rss ?? 0) / MIB,
        redisMiB: (memory['redis-server']?.rss ?? 0) / MIB,
      };
      say(`${short(size)} key-sets: ${JSON.stringify(values)}`);
      yield { x: size, values };
    }
  } finally {
    await system.stop();
  }
}

function known(system: RunningSystem): Promise<number> {
  return probe(system, PROBE_POINTS, { seed: 1, cardinality: BATCH });
}

/** CPU µs per point of points sent as fast as they are answered. */
async function probe(
  system: RunningSystem,
  points: number,
  series: { seed: number; cardinality: number },
): Promise<number> {
  const before = cpuNow(system.roots);
  const { acknowledgedItems } = await send({
    ...{ endpoint: system.otlp, run: nextRun(), rate: 0, items: points, batchSize: BATCH, connections: 4 },
    ...{ signals: { metrics: 1 }, metricKinds: { sum: 1 }, encoding: 'identity' },
    ...series,
  });
  await sleep(SETTLE_MS); // what it still has to deliver
  return (spentMs(before, cpuNow(system.roots)) * 1000) / acknowledgedItems;
}
