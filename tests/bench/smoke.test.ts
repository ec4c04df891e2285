/** That the benchmark works at all: a second of load through the pipeline. Figures are not judged here. */
import { existsSync } from 'node:fs';
import { temporaryDirectory } from '@nrdot/testbed';
import { expect, test } from 'vitest';
import { measure } from './measure.ts';
import { HEADLINE, ONE } from './suites.ts';
import { onePipeline } from './systems.ts';
import { targets } from './targets.ts';
import { Sink } from './upstream.ts';

test.skipIf(!existsSync('/proc/self/smaps_rollup'))(
  'a short run measures every process and finds every item',
  async () => {
    const sink = await new Sink().start();
    using dir = temporaryDirectory();
    const running = await onePipeline({ from: 'source' }).start(dir.path, sink.url);
    try {
      const workload = { rate: 1_000, batchSize: 50, encoding: 'gzip' } as const;
      const timing = { warmUpMs: 500, measureMs: 1_000 };
      const measurement = await measure(running, sink, { name: 'smoke', workload }, timing);
      expect(measurement).toMatchObject({ items: 1_500, lostItems: 0, twiceItems: 0 });
      expect(Object.keys(measurement.cpu).sort()).toEqual(['nrdot up', 'redis-server']);
      expect(measurement.cpuMsPerSecond).toBeGreaterThan(0);
      expect(measurement.memory.total!.rss).toBeGreaterThan(measurement.memory['redis-server']!.rss);
      expect(measurement.latency?.p99Ms).toBeGreaterThan(0);
      const results = [
        {
          suite: 'budget',
          system: ONE,
          durability: 'fsynced',
          case: HEADLINE,
          repetition: 1,
          commit: '',
          measurement,
        } as const,
      ];
      expect(targets(results)).toContain('| CPU at 10,000 spans/s, one process with Redis');
    } finally {
      await running.stop();
      await sink.process.end('SIGTERM');
    }
  },
);
