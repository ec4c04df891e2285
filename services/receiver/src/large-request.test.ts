import { gzipSync } from 'node:zlib';
import { loadConfig } from '@nrdot/config';
import { protobufToJson, type Signal, walk } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';
import { afterAll, describe, expect, it } from 'vitest';
import { field } from '../../../tests/cost/shapes.ts';
import { Classifier } from './classifier/classifier.ts';
import { type IngestDeps, type IngestRequest, ingest } from './ingest.ts';
import { type LargeRequest, LargeRequests, type LargeSound } from './large-request.ts';
import { CardinalityLimiter } from './limiter/index.ts';
import { localLimit } from './limiter/test/local-limit.ts';
import { limiterOptions } from './limiter/test/options.ts';

/** Counts what it was given. */
class Counted extends LargeRequests {
  reads = 0;

  override read(request: LargeRequest): Promise<LargeSound> {
    this.reads++;
    return super.read(request);
  }
}

const large = new Counted();
afterAll(() => large.stop());

const text = (value: string) => Buffer.from(value);
const { priority } = loadConfig({
  env: {},
  text: 'priority: {rules: [{class: critical, signal: logs, severity: {min: error}}, {class: high, metric: {regex: "^a"}}]}',
}).config;

/** How often requests, or pieces of them, were classified on the event loop. */
let classified = 0;

/** Takes a request as it is taken in one process with the thread, or without it. */
async function take(
  request: Partial<IngestRequest> & { signal: Signal; wire: Buffer },
  withThread: boolean,
  rules = priority,
  isFixed = false,
  maxBodyBytes = 1e8,
) {
  const batches: Batch[] = [];
  const limiter = new CardinalityLimiter(limiterOptions(), { now: () => 1_000_000, seed: 1 });
  const classifier = new Classifier(rules);
  const enqueue = async (all: readonly Batch[]) => {
    batches.push(...all);
    return all.map(() => 'queued' as const);
  };
  const deps: IngestDeps = {
    enqueue,
    store: undefined,
    limit: localLimit(limiter, enqueue),
    classify: (signal, body) => {
      classified++;
      return classifier.classify(signal, body);
    },
    rules: () => classifier,
    fix: { isOn: isFixed, count: () => {} },
    ...(withThread ? { large } : {}),
    now: () => 1_000,
  };
  const reservation = { reserve: () => {}, look: () => {}, release: () => {} };
  const limits = { maxBodyBytes, maxDepth: 64, invalidUtf8: 'reject_item' as const };
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
  return { items, rejected: partial?.rejected ?? 0, message: partial?.message ?? '', kept };
}

const log = (i: number, body: Buffer) =>
  field(2, field(5, field(1, body)), Buffer.from([0x10, i % 3 === 0 ? 17 : 9]));
const logs = (bad: boolean, n = 12_000) =>
  field(
    1,
    field(1, field(1, field(1, text('service.name')), field(2, field(1, text('s'))))),
    field(
      2,
      ...Array.from({ length: n }, (_, i) =>
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
  'handles %s like a request that is handled whole',
  async (_, request) => {
    const taken = await take(request, true);
    expect(taken).toEqual(await take(request, false));
    expect(taken.kept.length).toBeGreaterThan(1);
  },
);

it('repairs in the thread only what is too large to be rewritten at once', async () => {
  for (const [bad, items, reads] of [
    [false, 6_000, 0],
    [true, 500, 0],
    [true, 6_000, 1],
  ] as const) {
    const wire = logs(bad, items);
    expect(wire.byteLength).toBeLessThan(1024 * 1024);
    for (const request of [
      { signal: 'logs', wire },
      { signal: 'logs', wire: gzipSync(wire), encoding: 'gzip' },
    ] as const) {
      const before = large.reads;
      const taken = await take(request, true);
      expect(large.reads - before).toBe(reads);
      expect(taken).toEqual(await take(request, false));
      expect(taken.rejected).toBe(bad ? 1 : 0);
    }
  }
});

it.each([
  ['test items, many', { severity: { min: 'error' } }, 8_193, 'thread'],
  ['test items, few', { severity: { min: 'error' } }, 8_192, 'loop'],
  ['test scopes', { scope: 'a' }, 8_193, 'thread'],
  ['test resources', { resource: { 'service.name': 's' } }, 8_193, 'loop'],
  ['test items of another signal', { span: 'a' }, 8_193, 'loop'],
] as const)('classifies a request whose rules %s: %j, %i items, in the %s', async (_, test, items, where) => {
  const rules = JSON.stringify([{ class: 'high', ...test }]);
  const { priority: ofTest } = loadConfig({ env: {}, text: `priority: {rules: ${rules}}` }).config;
  const wire = field(1, field(2, ...Array.from({ length: items }, (_, i) => log(i, text('x')))));
  const before = { reads: large.reads, classified };
  const taken = await take({ signal: 'logs', wire }, true, ofTest);
  const isThread = where === 'thread';
  expect(large.reads - before.reads).toBe(isThread ? 1 : 0);
  expect(classified - before.classified).toBe(isThread ? 0 : 1);
  expect(taken).toEqual(await take({ signal: 'logs', wire }, false, ofTest));
});

it.each([
  [true, 256 * 1024, 0],
  [true, 256 * 1024 + 1, 1],
  [false, 256 * 1024 + 1, 0],
])(
  'fixes in the thread what is too large to be fixed at once: check.fix %j, %i bytes',
  async (isFixed, bytes, reads) => {
    const span = (name: number) => field(1, field(2, field(2, field(5, Buffer.alloc(name, 'x')))));
    const wire = span(bytes - (span(bytes).byteLength - bytes));
    expect(wire.byteLength).toBe(bytes);
    const before = large.reads;
    expect(await take({ signal: 'traces', wire }, true, undefined, isFixed)).toMatchObject({ items: 1 });
    expect(large.reads - before).toBe(reads);
  },
);

it('keeps the received bytes if nothing changed', async () => {
  const wire = gzipSync(
    field(1, field(2, ...Array.from({ length: 12_000 }, (_, i) => log(1, text(`${i} ${'x'.repeat(100)}`))))),
  );
  expect((await take({ signal: 'logs', wire, encoding: 'gzip' }, true)).kept).toEqual([
    { class: 'normal', items: 12_000, encoding: 'gzip' },
  ]);
});

it('refuses malformed requests as on the main thread', async () => {
  const wire = Buffer.concat([logs(false), Buffer.from([0x0a, 0x7f])]);
  const refused = (withThread: boolean) =>
    take({ signal: 'logs', wire }, withThread).catch((error: Error) => error);
  const [there, here] = [await refused(true), await refused(false)];
  expect(there).toMatchObject({ httpStatus: 400, message: (here as Error).message });
});

const point = (i: number, value: Buffer) =>
  field(1, field(7, field(1, text('k')), field(2, field(1, Buffer.concat([text(`${i}`), value])))));

it('rejects a data point that is too large for the limiter, and keeps the others', async () => {
  const points = [0, 300_000, 0].map((bytes, i) => point(i, Buffer.alloc(bytes, 'x')));
  const wire = field(1, field(2, field(2, field(1, text('m')), field(5, ...points))));
  const taken = await take({ signal: 'metrics', wire }, true);
  expect(taken).toMatchObject({ items: 2, rejected: 1, kept: [{ items: 2 }] });
  expect(taken.message).toMatch(
    /^rejected 1 data point that cannot be processed in pieces: more than 262144 bytes/,
  );
});

/** A request whose items have a resource with so large an attribute. */
const described = (bytes: number, ...scope: Buffer[]) =>
  field(
    1,
    field(1, field(1, field(1, text('k')), field(2, field(1, Buffer.alloc(bytes, 'x'))))),
    field(2, ...scope),
  );
const points = (resource: number, n: number) =>
  described(
    resource,
    field(
      2,
      field(1, text('m')),
      field(5, ...Array.from({ length: n }, (_, i) => point(i, text('x'.repeat(30))))),
    ),
  );
const LIMITED_MAX_BYTES = 256 * 1024;
/** Size of the attribute with which a data point takes exactly as much as it may. */
const MOST = LIMITED_MAX_BYTES - (points(LIMITED_MAX_BYTES, 1).byteLength - LIMITED_MAX_BYTES);

it.each([
  [240_000, 3_000],
  [261_000, 1_000],
  [262_000, 10],
  [MOST, 10],
])('keeps all data points with a resource of %i bytes: %i', async (bytes, n) => {
  expect(points(MOST, 1).byteLength).toBe(LIMITED_MAX_BYTES);
  const taken = await take({ signal: 'metrics', wire: points(bytes, n) }, true);
  expect(taken).toMatchObject({ items: n, rejected: 0, message: '' });
});

it('rejects data points with a resource that is a byte too large', async () => {
  const wire = Buffer.concat([points(10, 3), points(MOST + 1, 10), points(MOST + 1_000, 10)]);
  expect(await take({ signal: 'metrics', wire }, true)).toMatchObject({ items: 3, rejected: 20 });
});

it('refuses a request of metrics whose pieces would have many times its size, as a whole', async () => {
  const wire = Buffer.concat([points(10, 3), points(261_000, 1_000)]);
  await expect(
    take({ signal: 'metrics', wire }, true, undefined, false, 4 * wire.byteLength),
  ).rejects.toMatchObject({
    httpStatus: 413,
    message: expect.stringMatching(/copies of what describes 1003 data points .* more than \d+ bytes/),
  });
});

it.each([
  [1_048_000, 3_000, 1e8],
  [600_000, 9_000, 3e6],
  [3_000_000, 3_000, 1e8],
])('keeps all log records with a resource of %i bytes: %i; pieces up to %i bytes', async (bytes, n, most) => {
  const wire = described(bytes, ...Array.from({ length: n }, (_, i) => log(i, text('a record'.repeat(30)))));
  const taken = await take({ signal: 'logs', wire }, true, undefined, false, most);
  expect(taken).toMatchObject({ items: n, rejected: 0, message: '' });
});

it('keeps a log record of any size', async () => {
  const wire = field(1, field(2, log(1, text('a')), log(1, Buffer.alloc(3_000_000, 'x'))));
  expect(await take({ signal: 'logs', wire }, true)).toMatchObject({ items: 2, rejected: 0 });
});

describe('a thread that', () => {
  const script = (code: string) =>
    new URL(
      `data:text/javascript,${encodeURIComponent(`import { parentPort, threadId } from 'node:worker_threads';
      parentPort.on('message', ({ options: { maxDepth } }) => { ${code} });`)}`,
    );
  const sound = `parentPort.postMessage({ items: maxDepth, rejected: 0, message: '', pieces: [] });`;
  const read = (requests: LargeRequests, maxDepth: number) =>
    requests.read({
      ...{ signal: 'logs', format: 'protobuf', decoded: Buffer.alloc(10) },
      options: { maxDepth, invalidUtf8: 'replace' },
    });

  it('hangs is replaced: its request is refused, and the following ones are read', async () => {
    const requests = new LargeRequests({
      script: script(`while (maxDepth === 7); ${sound}`),
      deadlineMs: 2_000,
    });
    const [first, second, third] = await Promise.allSettled([1, 7, 3].map((depth) => read(requests, depth)));
    expect([first, third]).toMatchObject([{ value: { items: 1 } }, { value: { items: 3 } }]);
    expect(second).toMatchObject({
      reason: { code: 'too_slow', httpStatus: 503, message: expect.stringContaining('within 2 s') },
    });
    await requests.stop();
  });

  it('has read a large request is replaced, and no other', async () => {
    const requests = new LargeRequests({
      script: script(`parentPort.postMessage({ items: threadId, rejected: 0, message: '', pieces: [] });`),
    });
    const threads: number[] = [];
    for (const mib of [1, 9, 1, 1]) {
      const decoded = Buffer.alloc(mib * 1024 * 1024);
      const options = { maxDepth: 64, invalidUtf8: 'replace' as const };
      threads.push((await requests.read({ signal: 'logs', format: 'protobuf', decoded, options })).items);
    }
    expect(threads.map((thread) => thread - threads[0]!)).toEqual([0, 0, 1, 1]);
    await requests.stop();
  });

  it('fails is replaced: its request fails, and the following ones are read', async () => {
    const requests = new LargeRequests({
      script: script(`if (maxDepth === 7) throw new Error('odd'); ${sound}`),
    });
    const [failed, taken] = await Promise.allSettled([7, 3].map((depth) => read(requests, depth)));
    expect(failed).toMatchObject({ reason: { message: 'odd' } });
    expect(taken).toMatchObject({ value: { items: 3 } });
    await requests.stop();
  });
});
