import type { JobData, Store } from '@nrdot/queue';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { expect, it } from 'vitest';
import { Exporter } from './exporter.ts';
import type { Upstream } from './upstream.ts';

const HOUR_MS = 3_600_000;
const JOB = {
  ...{ signal: 'logs', class: 'normal', origin: 'live', encoding: 'identity', items: 1, bytes: 4 },
  batches: [{ key: 'b1', items: 1, bytes: 4, receivedAt: 0 }],
} satisfies JobData;

/** What becomes of a batch that was received so long ago. */
async function fate(agoMs: number, clocks: { now: number; wallNow: number }): Promise<string> {
  const [batch] = JOB.batches;
  const data = { ...JOB, batches: [{ ...batch, receivedAt: clocks.wallNow - agoMs }] };
  const job = {
    id: 'b1',
    data: JSON.stringify(data),
    attempts: 0,
    payloads: [Buffer.from('body')],
    epoch: '',
  };
  const nothing = { waiting: 0, nextInMs: -1, heldBack: 0, mayDefer: false };
  let taken = false;
  return new Promise((resolve) => {
    const exporter = new Exporter(
      {
        ...{ minConcurrency: 1, concurrency: 1, inflightBytes: 1_000, maxBodyBytes: 1_000 },
        ...{ compression: 'as-received', maxAgeMs: { logs: 48 * HOUR_MS } },
        retry: { initialMs: 1, maxMs: 1, multiplier: 1, jitter: 0, maxAttempts: 1, maxRetryAfterMs: 1 },
      },
      {
        store: {
          take: async () => {
            if (taken) return new Promise(() => {});
            taken = true;
            return { ...nothing, jobs: [job] };
          },
          settle: async (_job: JobData, _stage: string, settlement: { outcome: string; reason?: string }) => {
            resolve(settlement.reason ?? settlement.outcome);
            void exporter.stop(0);
            return 1;
          },
          release: async () => true,
        } as unknown as Store,
        wakeSignal: { notify: () => {}, close: () => {}, wait: () => new Promise(() => {}) } as never,
        upstream: {
          send: async () => ({ kind: 'delivered', refusedItems: 0, message: '' }),
          close: async () => {},
        } as unknown as Upstream,
        log: createLogger({ level: 'silent', format: 'json' }),
        metrics: new MetricsRegistry(['exporter']).metrics,
        now: () => clocks.now,
        wallNow: () => clocks.wallNow,
        random: Math.random,
      },
    );
  });
}

it('drops what is older than max_age, and nothing because a clock is or was ahead', async () => {
  const now = 1_700_000_000_000;
  expect(await fate(47 * HOUR_MS, { now, wallNow: now })).toBe('delivered');
  expect(await fate(49 * HOUR_MS, { now, wallNow: now })).toBe('too_old');
  // The process began with a clock that was three days ahead, and has been set right since.
  expect(await fate(1, { now: now + 72 * HOUR_MS, wallNow: now })).toBe('delivered');
});
