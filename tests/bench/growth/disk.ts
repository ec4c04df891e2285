import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { keysOf } from '@nrdot/queue';
import { Redis } from 'ioredis';
import { SEGMENT_HEADER_BYTES } from '../../../shared/segment-log/src/segment-header.ts';
import { layDownBigDirectory } from '../../../shared/segment-log/test/big-directory.ts';
import { measure } from '../measure.ts';
import { cpuNow, memoryNow } from '../sampler.ts';
import type { RunningSystem } from '../system.ts';
import { onePipeline } from '../systems.ts';
import { form, type Growth, type Stand, total } from './growth.ts';

const MIB = 1048576;
const GIBIBYTE = 1024 * MIB;
const SEGMENT_BYTES = 128 * MIB;
const SIZES = { segmentBytes: SEGMENT_BYTES, openBytes: 8 * MIB, payloadBytes: 100 * 1024 };
const LIVE = { rate: 10_000, batchSize: 500, encoding: 'gzip' } as const;
const TIMING = { warmUpMs: 2_000, measureMs: 5_000 };
const SETTLE_MS = 2_000;

export const disk: Growth = {
  title: 'Bytes in the dlq',
  about:
    'Sealed segments of 128 MiB with true headers, and holes where their batches would be (what start-up reads of a sealed segment is its header); in each area one segment of 8 MiB that a crash left open, which start-up reads through. Replay is paused. Start-up, memory and the cost of live traffic should not depend on how much lies there; what a start checks in the background (SHA-256, 32 MiB/s) is in the cost of live traffic, whatever the amount.',
  x: 'GiB in the dlq',
  show: String,
  scale: 'linear',
  charts: [
    {
      name: 'start',
      title: 'Start-up until it answers',
      unit: 's',
      lines: { startS: 'time', startCpuS: 'CPU' },
    },
    {
      name: 'memory',
      title: 'Resident memory after start-up',
      unit: 'MiB',
      lines: { rssMiB: 'Node and Redis' },
    },
    {
      name: 'cost',
      title: 'CPU per batch of live traffic, Redis included',
      unit: 'ms',
      lines: { batchMs: '500 spans, in and out' },
    },
  ],
  points: [0, 1, 4, 8, 15],
  seconds: 75,
  run: steps,
};

async function* steps({ dir, sink, say }: Stand, points: readonly number[]) {
  // The default is 15 GiB: at that, what lies there would go to make room.
  const pipeline = onePipeline(form({ dlq: { listen: '127.0.0.1:0', capacity: '20GiB' } }));
  const segments = join(dir, 'data', 'dlq');
  const sha256 = hashOfHoles(SEGMENT_BYTES - SEGMENT_HEADER_BYTES);
  await pauseReplay(await pipeline.start(dir, sink.url));
  for (const gib of points) {
    rmSync(segments, { recursive: true, force: true });
    mkdirSync(segments, { recursive: true });
    const sizes = { ...SIZES, sealed: Math.round((gib * GIBIBYTE) / SEGMENT_BYTES) };
    if (gib > 0) await layDownBigDirectory(segments, sizes, { receivedAt: Date.now(), sha256 });
    const startedAt = performance.now();
    const system = await pipeline.start(dir, sink.url);
    try {
      const startS = (performance.now() - startedAt) / 1000;
      const startCpuS = total(cpuNow(system.roots)) / 1000;
      await sleep(SETTLE_MS);
      const rssMiB = (memoryNow(system.roots).total?.rss ?? 0) / MIB;
      const { cpuMsPerSecond } = await measure(system, sink, { name: 'live', workload: LIVE }, TIMING);
      const batchMs = (cpuMsPerSecond * LIVE.batchSize) / LIVE.rate;
      say(`${gib} GiB: ${JSON.stringify({ startS, startCpuS, rssMiB, batchMs })}`);
      yield { x: gib, values: { startS, startCpuS, rssMiB, batchMs } };
    } finally {
      await system.stop();
    }
  }
}

/** What a person does with `nrdot dlq pause`; it outlives restarts. */
async function pauseReplay(system: RunningSystem): Promise<void> {
  const redis = new Redis(system.redisUrl!.replace('unix://', ''));
  await redis.hset(keysOf('{nrdot}').scheduler, 'replay:paused', '1');
  redis.disconnect();
  await system.stop();
}

function hashOfHoles(bytes: number): Buffer {
  const hash = createHash('sha256');
  const zeros = Buffer.alloc(MIB);
  for (let left = bytes; left > 0; left -= MIB) hash.update(zeros.subarray(0, Math.min(MIB, left)));
  return hash.digest();
}
