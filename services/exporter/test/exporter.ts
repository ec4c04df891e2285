import type { ContentEncoding } from '@nrdot/otlp';
import type { JobData, Store } from '@nrdot/queue';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { Exporter, type ExporterOptions } from '../src/exporter.ts';
import type { Outcome } from '../src/outcome.ts';
import type { Upstream } from '../src/upstream.ts';

const MIB = 2 ** 20;

/** Sends log batches of one item each through an exporter of its own. @returns when each has been settled or spilled */
export async function exported(
  payloads: readonly Buffer[],
  encoding: ContentEncoding,
  send: (body: Buffer, encoding: ContentEncoding) => Promise<Outcome>,
  options: Partial<ExporterOptions> = {},
): Promise<void> {
  const jobs = payloads.map((payload, i) => {
    const batch = { key: `b${i}`, items: 1, bytes: payload.byteLength, receivedAt: 0 };
    const data = { signal: 'logs', class: 'normal', origin: 'live', encoding, batches: [batch] };
    return {
      id: batch.key,
      data: JSON.stringify({ ...data, items: 1, bytes: batch.bytes }),
      ...{ attempts: 0, payloads: [payload], epoch: '' },
    };
  });
  const done = Promise.withResolvers<void>();
  let left = jobs.length;
  const ended = async () => {
    if (--left === 0) done.resolve();
    return 1;
  };
  let taken = false;
  const exporter = new Exporter(
    {
      ...{ minConcurrency: 16, concurrency: 16, inflightBytes: 10 * MIB, maxBodyBytes: 64 * MIB },
      compression: 'as-received',
      retry: { initialMs: 1, maxMs: 1, multiplier: 1, jitter: 0, maxAttempts: 1, maxRetryAfterMs: 1 },
      ...options,
    },
    {
      store: {
        take: async () => {
          if (taken) return new Promise(() => {});
          taken = true;
          return { waiting: 0, nextInMs: -1, heldBack: 0, mayDefer: false, jobs };
        },
        settle: (_job: JobData) => ended(),
        handOver: ended,
        release: async () => true,
        report: async () => {},
      } as unknown as Store,
      wakeSignal: { notify: () => {}, close: () => {}, wait: () => new Promise(() => {}) } as never,
      upstream: {
        send: (_signal: string, body: Buffer, sent: ContentEncoding) => send(body, sent),
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
}
