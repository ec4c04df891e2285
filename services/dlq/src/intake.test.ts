import { gzipSync } from 'node:zlib';
import { keysOf, WakeSignal } from '@nrdot/queue';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { expect, it } from 'vitest';
import { Intake, type IntakeDeps, type Spilled } from './intake.ts';

const MIB = 2 ** 20;

it('holds no more decompressed bytes at once than it may, however many small payloads come', async () => {
  const held = { bytes: 0, most: 0 };
  const intake = new Intake({
    ...{ maxBodyBytes: 64 * MIB, maxInflightBytes: 10 * MIB, concurrency: 1, changed: () => {} },
    store: { keys: keysOf('{test}'), take: () => new Promise(() => {}) },
    wakeSignal: new WakeSignal(),
    log: createLogger({ level: 'silent', format: 'json' }),
    metrics: new MetricsRegistry(['dlq']).metrics,
    segments: {
      lastIds: new Set(),
      append: async (_area: string, { payload }: { payload: Buffer }) => {
        held.bytes += payload.byteLength;
        held.most = Math.max(held.most, held.bytes);
        await new Promise((resolve) => setTimeout(resolve, 20));
        held.bytes -= payload.byteLength;
      },
    },
  } as unknown as IntakeDeps);
  const payload = gzipSync(Buffer.alloc(4 * MIB));
  const batch = {
    signal: 'logs',
    class: 'normal',
    items: 1,
    encoding: 'gzip',
    receivedAt: 0,
    reason: 'x',
    payload,
  };
  const written = await Promise.all(
    Array.from({ length: 12 }, (_, i) => intake.write({ ...batch, id: `b${i}` } as Spilled)),
  );
  expect(written.every(({ fresh }) => fresh)).toBe(true);
  expect(held.most).toBe(8 * MIB);
});
