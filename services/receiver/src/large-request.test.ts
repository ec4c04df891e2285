import { gzipSync } from 'node:zlib';
import { loadConfig } from '@nrdot/config';
import { protobufToJson, type Signal, walk } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';
import { afterAll, expect, it } from 'vitest';
import { field } from '../../../tests/cost/shapes.ts';
import { Classifier } from './classifier/classifier.ts';
import { type IngestDeps, type IngestRequest, ingest } from './ingest.ts';
import { LargeRequests } from './large-request.ts';
import { CardinalityLimiter } from './limiter/index.ts';
import { localLimit } from './limiter/test/local-limit.ts';

const large = new LargeRequests();
afterAll(() => large.stop());

const text = (value: string) => Buffer.from(value);
const { priority } = loadConfig({
  env: {},
  text: 'priority: {rules: [{class: critical, signal: logs, severity: {min: error}}, {class: high, metric: {regex: "^a"}}]}',
}).config;

/** Takes a request as it is taken in one process with the thread, or without it. */
async function take(request: Partial<IngestRequest> & { signal: Signal; wire: Buffer }, withThread: boolean) {
  const batches: Batch[] = [];
  const limiter = new CardinalityLimiter({}, { now: () => 1_000_000, seed: 1 });
  const classifier = new Classifier(priority);
  const enqueue = async (all: readonly Batch[]) => {
    batches.push(...all);
    return all.map(() => 'queued' as const);
  };
  const deps: IngestDeps = {
    enqueue,
    store: undefined,
    limit: localLimit(limiter, enqueue),
    classify: (signal, body) => classifier.classify(signal, body),
    ...(withThread ? { large } : {}),
    now: () => 1_000,
  };
  const reservation = { reserve: () => {}, release: () => {} };
  const limits = { maxBodyBytes: 1e8, maxDepth: 64, invalidUtf8: 'reject_item' as const };
  const { items, partial } = await ingest(
    { format: 'protobuf', encoding: 'identity', reservation, ...request },
    limits,
    deps,
  );
  const kept = batches
    .map(({ class: ofClass, items: held, encoding, payload }) => {
      if (encoding === 'identity') expect(walk(request.signal, payload).items).toBe(held);
      return { class: ofClass, items: held, encoding };
    })
    .sort((a, b) => a.class.localeCompare(b.class));
  return { items, rejected: partial?.rejected ?? 0, kept };
}

const log = (i: number, body: Buffer) =>
  field(2, field(5, field(1, body)), Buffer.from([0x10, i % 3 === 0 ? 17 : 9]));
const logs = (bad: boolean) =>
  field(
    1,
    field(1, field(1, field(1, text('service.name')), field(2, field(1, text('s'))))),
    field(
      2,
      ...Array.from({ length: 12_000 }, (_, i) =>
        log(i, bad && i === 7 ? Buffer.from([0xff]) : text(`${i} ${'x'.repeat(100)}`)),
      ),
    ),
  );
const metrics = field(
  1,
  field(
    2,
    ...Array.from({ length: 20_000 }, (_, i) =>
      field(
        2,
        field(1, text(`${'ab'[i % 2]}-metric-of-a-long-name-${i % 50}`)),
        field(5, field(1, field(7, field(1, text('k')), field(2, field(1, text(`${i}`)))))),
      ),
    ),
  ),
);

it.each([
  ['logs of two classes', { signal: 'logs', wire: logs(false) }],
  ['logs of which one is bad', { signal: 'logs', wire: logs(true) }],
  ['compressed logs', { signal: 'logs', wire: gzipSync(logs(false)), encoding: 'gzip' }],
  ['metrics of two classes', { signal: 'metrics', wire: metrics }],
  ['JSON', { signal: 'logs', wire: text(protobufToJson('logs', logs(false))!), format: 'json' }],
] as [string, Partial<IngestRequest> & { signal: Signal; wire: Buffer }][])(
  'takes %s as it would take them whole',
  async (_, request) => {
    const taken = await take(request, true);
    expect(taken).toEqual(await take(request, false));
    expect(taken.kept.length).toBeGreaterThan(1);
  },
);

it('keeps the very bytes that came when nothing changed', async () => {
  const wire = gzipSync(
    field(1, field(2, ...Array.from({ length: 12_000 }, (_, i) => log(1, text(`${i} ${'x'.repeat(100)}`))))),
  );
  expect((await take({ signal: 'logs', wire, encoding: 'gzip' }, true)).kept).toEqual([
    { class: 'normal', items: 12_000, encoding: 'gzip' },
  ]);
});

it('refuses what is malformed as it would here', async () => {
  const wire = Buffer.concat([logs(false), Buffer.from([0x0a, 0x7f])]);
  const refused = (withThread: boolean) =>
    take({ signal: 'logs', wire }, withThread).catch((error: Error) => error);
  const [there, here] = [await refused(true), await refused(false)];
  expect(there).toMatchObject({ httpStatus: 400, message: (here as Error).message });
});
