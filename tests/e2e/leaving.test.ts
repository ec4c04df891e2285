/** What leaves: each request is one that any OTLP/HTTP server can read, and of a size that it takes. */
import { gzipSync } from 'node:zlib';
import {
  type Behaviour,
  complaint,
  generate,
  judge,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { accounting, startOne, untilQuiet } from '../kit.ts';

/**
 * Sends a load to a pipeline whose upstream answers slowly at first, one request at a time, so that a backlog is merged.
 * @returns what is wrong with what arrived, and what the upstream saw
 */
async function backlog(
  load: Parameters<typeof generate>[0] extends infer Given ? Partial<Given> : never,
  behaviour: Partial<Behaviour>,
  config: Record<string, unknown> = {},
) {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: { ...behaviour, latencyMs: 1_500 },
  });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  await using running = await startOne(dir.path, mock, {
    ...config,
    exporter: { concurrency: 1, ...(config.exporter as object) },
  });
  const report = await generate({
    endpoint: running.otlp,
    rate: 0,
    batchSize: 20,
    items: 1_200,
    connections: 8,
    ...load,
  });
  mock.set({ latencyMs: 0 });
  const books = await untilQuiet(running.admin);
  return {
    complaint: complaint(judge(report, mock.received(report.run))),
    books,
    stats: mock.stats(),
    report,
  };
}

/** ExportTraceServiceRequest with one span. */
const ONE_SPAN = Buffer.from('0a0b120912072a0568656c6c6f', 'hex');

const delivered = (items: number) => ({ delivered: items, rejected: 0, dropped: 0, difference: 0 });

describe('a server that reads the first gzip member or zstd frame and answers 200', () => {
  for (const encoding of ['gzip', 'zstd', 'identity'] as const) {
    it(`gets every item of a backlog in ${encoding}`, async () => {
      const { complaint, books, stats, report } = await backlog({ encoding }, { firstMemberOnly: true });
      expect(complaint).toBe('');
      expect(books).toMatchObject(delivered(1_200));
      expect(stats).toMatchObject({ items: 1_200, duplicates: 0, corrupted: 0, unreadable: 0 });
      if (encoding !== 'zstd') expect(stats.requests).toBeLessThan(report.batches / 2); // merged
    });
  }
});

it.each(['identity', 'gzip'])(
  'requests with profiles are never merged, from Redis or from disk (%s): their indices refer to their own dictionary',
  async (encoding) => {
    using dir = temporaryDirectory();
    const mock = await startMockUpstream({
      ...{ listen: '127.0.0.1:0', keep: 1_000 },
      behaviour: { latencyMs: 1_500 },
    });
    await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
    await using running = await startOne(dir.path, mock, { exporter: { concurrency: 1 } });
    const post = async (path: string, body: Buffer) => {
      const zipped = encoding === 'gzip';
      const response = await fetch(running.otlp + path, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-protobuf',
          ...(zipped ? { 'content-encoding': encoding } : {}),
        },
        body: zipped ? gzipSync(body) : body,
      });
      expect(response.status).toBe(200);
    };
    /** More than wait for the exporters, and as many requests of traces, which are merged. */
    const round = async (name: string) => {
      const profiles = Array.from({ length: 120 }, (_, i) => Buffer.from(`${name} ${i}`));
      await Promise.all(profiles.map((profile) => post('/v1development/profiles', profile)));
      await Promise.all(profiles.map(() => post('/v1/traces', ONE_SPAN)));
      return profiles.map(String);
    };
    const arrived = (path: string) => mock.kept().filter((request) => request.path === path);
    const expectEach = async (profiles: string[]) => {
      expect(await untilQuiet(running.admin)).toMatchObject({ rejected: 0, dropped: 0, difference: 0 });
      const bodies = arrived('/v1development/profiles').map(({ body }) => String(body));
      expect(bodies.sort()).toEqual(profiles.sort());
      return arrived('/v1/traces').length;
    };

    const waited = await round('waits in Redis');
    mock.set({ latencyMs: 0 });
    expect(await expectEach(waited)).toBeLessThan(waited.length); // the traces were merged
    mock.reset();

    mock.set({ outage: true });
    const spilled = await round('waits on disk');
    await waitUntil(async () => (await accounting(running.admin)).on_disk === 2 * spilled.length, {
      what: 'all items are on disk',
    });
    mock.set({ outage: false });
    await expectEach(spilled);
  },
);

describe('a server that does not read an encoding', () => {
  for (const [encoding, status] of [
    ['gzip', 415],
    ['gzip', 400],
    ['zstd', 415],
    ['zstd', 400],
  ] as const) {
    it(`gets everything in another one, after answering ${status} to ${encoding} once`, async () => {
      const { complaint, books, stats } = await backlog(
        { encoding },
        { refuseEncoding: encoding, refuseEncodingStatus: status },
      );
      expect(complaint).toBe('');
      expect(books).toMatchObject(delivered(1_200));
      expect(stats.byStatus[status]).toBe(1);
    });
  }
});

describe('a server that accepts requests of up to 100 kB', () => {
  const limit = { maxBodyBytes: 100_000 };
  const gzip = { encoding: 'gzip', batchSize: 200, items: 12_000 } as const;

  it('never gets a larger one if the limit is configured, merged or single', async () => {
    const config = { exporter: { max_request_bytes: 100_000 } };
    const merged = await backlog(gzip, limit, config);
    expect(merged.complaint).toBe('');
    expect(merged.books).toMatchObject(delivered(12_000));
    expect(merged.stats.byStatus).toEqual({ 200: merged.stats.requests });
    expect(merged.stats.requests).toBeLessThan(merged.report.batches);

    const single = await backlog({ encoding: 'identity', batchSize: 3_000, items: 3_000 }, limit, config);
    expect(single.complaint).toBe('');
    expect(single.books).toMatchObject(delivered(3_000));
    expect(single.stats.byStatus).toEqual({ 200: single.stats.requests });
    expect(single.stats).toMatchObject({ items: 3_000, duplicates: 0 });
  });

  it('makes the exporter learn the limit with a few refusals, whatever the backlog', async () => {
    const { complaint, books, stats } = await backlog({ ...gzip, items: 30_000 }, { maxBodyBytes: 15_000 });
    expect(complaint).toBe('');
    expect(books).toMatchObject(delivered(30_000));
    expect(stats.byStatus[413]).toBeGreaterThan(0);
    expect(stats.byStatus[413]).toBeLessThanOrEqual(5); // halved until it fits
    expect(stats).toMatchObject({ items: 30_000, duplicates: 0 });
  });
});

it('a body that is too large for a slow link is halved until it arrives in time', async () => {
  const { complaint, books, stats } = await backlog(
    { encoding: 'identity', batchSize: 3_000, items: 3_000 },
    { bytesPerSecond: 300_000 },
    { exporter: { timeout: '2500ms', retry: { max_attempts: 3 } } },
  );
  expect(complaint).toBe('');
  expect(books).toMatchObject(delivered(3_000));
  expect(stats.items).toBe(3_000);
});
