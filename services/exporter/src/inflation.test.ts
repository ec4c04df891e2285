import { gzipSync } from 'node:zlib';
import { Inflation } from '@nrdot/otlp';
import type { JobData, Store } from '@nrdot/queue';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { expect, it } from 'vitest';
import { Exporter } from './exporter.ts';
import type { Upstream } from './upstream.ts';

const MIB = 2 ** 20;
const LIMITS = { maxBytes: 64 * MIB };
const zeros = (bytes: number) => gzipSync(Buffer.alloc(bytes));

it('an upstream that takes no gzip gets no more decompressed bytes at once than exporter.inflight_bytes', async () => {
  const payload = zeros(4 * MIB);
  const jobs = Array.from({ length: 12 }, (_, i) => {
    const batch = { key: `b${i}`, items: 1, bytes: payload.byteLength, receivedAt: 0 };
    const data = { signal: 'logs', class: 'normal', origin: 'live', encoding: 'gzip', batches: [batch] };
    return {
      id: batch.key,
      data: JSON.stringify({ ...data, items: 1, bytes: batch.bytes }),
      ...{ attempts: 0, payloads: [payload], epoch: '' },
    };
  });
  const sending = { bytes: 0, most: 0 };
  const done = Promise.withResolvers<void>();
  let settled = 0;
  let taken = false;
  const exporter = new Exporter(
    {
      ...{ minConcurrency: 16, concurrency: 16, inflightBytes: 10 * MIB, maxBodyBytes: 64 * MIB },
      compression: 'none',
      retry: { initialMs: 1, maxMs: 1, multiplier: 1, jitter: 0, maxAttempts: 1, maxRetryAfterMs: 1 },
    },
    {
      store: {
        take: async () => {
          if (taken) return new Promise(() => {});
          taken = true;
          return { waiting: 0, nextInMs: -1, heldBack: 0, mayDefer: false, jobs };
        },
        settle: async (_job: JobData) => {
          if (++settled === jobs.length) done.resolve();
          return 1;
        },
        release: async () => true,
      } as unknown as Store,
      wakeSignal: { notify: () => {}, wait: () => new Promise(() => {}) } as never,
      upstream: {
        send: async (_signal: string, body: Buffer) => {
          sending.bytes += body.byteLength;
          sending.most = Math.max(sending.most, sending.bytes);
          await new Promise((resolve) => setTimeout(resolve, 20));
          sending.bytes -= body.byteLength;
          return { kind: 'delivered', refusedItems: 0, message: '' };
        },
        close: async () => {},
      } as unknown as Upstream,
      log: createLogger({ level: 'silent', format: 'json' }),
      metrics: new MetricsRegistry(['exporter']).metrics,
      now: () => 0,
      random: Math.random,
    },
  );
  await done.promise;
  void exporter.stop(0);
  expect(sending.most).toBe(8 * MIB);
});

it('jobs that are larger than they say, or than the limit, wait until there is room, and all get it', async () => {
  const inflation = new Inflation(8 * MIB);
  // Of several members, a body says the size of the last.
  const liar = Buffer.concat([zeros(6 * MIB), zeros(1)]);
  const jobs = [
    [zeros(3 * MIB), zeros(3 * MIB)],
    [liar],
    [zeros(20 * MIB)],
    [liar],
    [zeros(MIB)],
    [liar, liar],
  ];
  const held = { bytes: 0, jobs: 0 };
  await Promise.all(
    jobs.map(async (job) => {
      const { byteLength } = await inflation.decode(job, 'gzip', LIMITS);
      held.bytes += byteLength;
      held.jobs++;
      expect(held.bytes <= 8 * MIB || held.jobs === 1).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 5));
      // Once more, as when it is split: at once.
      expect((await inflation.decode(job, 'gzip', LIMITS)).byteLength).toBe(byteLength);
      held.bytes -= byteLength;
      held.jobs--;
      inflation.release(job);
    }),
  );
  expect(inflation.usedBytes).toBe(0);
});

it('what cannot be decompressed holds nothing', async () => {
  const inflation = new Inflation(MIB);
  const job = [Buffer.from('no gzip')];
  await expect(inflation.decode(job, 'gzip', LIMITS)).rejects.toThrow(/not valid gzip/);
  inflation.release(job);
  expect((await inflation.decode([zeros(2 * MIB)], 'gzip', LIMITS)).byteLength).toBe(2 * MIB);
});
