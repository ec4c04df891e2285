/** That the benchmark works at all: a second of load through the pipeline. Figures are not judged here. */
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { temporaryDirectory } from '@nrdot/testbed';
import { expect, test } from 'vitest';
import { headline } from './headline.ts';
import { measure, measureIdle } from './measure.ts';
import { coresOfOthers, undisturbed } from './quiet.ts';
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
          others: 0,
          measurement,
        } as const,
      ];
      expect(targets(results)).toContain('| CPU at 10,000 spans/s, one process with Redis');
      const printed = headline(results);
      expect(printed).toContain(HEADLINE);
      expect(printed).toMatch(/^NRDOT\+ one process +[\d.]+ +1\.00 +1000 /m);
      expect(printed).toMatch(/^p99 from due to upstream, one process +≤ 10 ms +[\d.]+ ms +(not )?met/m);
      const idle = await measureIdle(running, { warmUpMs: 0, measureMs: 500 });
      expect(Object.keys(idle.cpu).sort()).toEqual(['nrdot up', 'redis-server']);
      expect(idle.memory.total!.rss).toBeGreaterThan(0);
    } finally {
      await running.stop();
      await sink.process.end('SIGTERM');
    }
  },
);

test.skipIf(!existsSync('/proc/stat'))(
  'what others take is a share of the machine, and not what this takes',
  async () => {
    const cores = await coresOfOthers();
    expect(cores).toBeGreaterThanOrEqual(0);
    expect(cores).toBeLessThanOrEqual(cpus().length + 1);
  },
);

test('a disturbed measurement is taken again, and the least disturbed stays', async () => {
  const run = async (...looks: number[]) => {
    let measured = 0;
    const { value, others } = await undisturbed(
      async () => ++measured,
      3,
      () => {},
      async () => looks.shift()!,
    );
    return { value, others, measured };
  };
  expect(await run(0.1, 0.2)).toEqual({ value: 1, others: 0.2, measured: 1 });
  expect(await run(0.1, 0.9, 0.3, 0)).toEqual({ value: 2, others: 0.3, measured: 2 });
  expect(await run(2, 0, 0, 0.6, 0.9, 0.9)).toEqual({ value: 2, others: 0.6, measured: 3 });
});
