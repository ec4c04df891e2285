/** What the pipeline says of itself: the books after everything that can happen to them, and labels that stay bounded. */
import { CATALOGUE, labelValues, type MetricSpec } from '@nrdot/telemetry';
import { generate, startMockUpstream, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Sample, scrape, startOne, startServices } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
});
afterEach(async () => {
  await mock.close();
  dir[Symbol.dispose]();
});

const LOAD = {
  rate: 4_000,
  batchSize: 50,
  signals: { traces: 2, logs: 1 }, // nothing that the limiter could touch
  classes: { critical: 1, high: 1, normal: 1 },
  connections: 4,
} as const;
const STORM = {
  rate: 0,
  batchSize: 1_000,
  signals: { metrics: 1 },
  metricKinds: { sum: 1 },
  items: 20_000,
  cardinality: 20_000,
} as const;

type Books = Record<
  'accepted' | 'delivered' | 'queued' | 'on_disk' | 'rejected' | 'dropped' | 'difference',
  number
>;

async function books(admin: string): Promise<Books> {
  const samples = (await scrape(admin)).filter(({ name }) => name === 'pipeline_accounting_items');
  return Object.fromEntries(samples.map(({ labels, value }) => [labels.state, value])) as Books;
}

/** Waits until nothing moves and the books, read from the metrics alone, balance. */
function balanced(admin: string, also: (books: Books) => boolean): Promise<Books> {
  return waitUntil(
    async () => {
      const now = await books(admin);
      return now.queued === 0 && now.difference === 0 && also(now) ? now : undefined;
    },
    { what: 'the books balance', timeoutMs: 30_000, everyMs: 100 },
  );
}

const sum = ({ delivered, queued, on_disk, rejected, dropped }: Books) =>
  delivered + queued + on_disk + rejected + dropped;

/** `<…>` in a known value of a label stands for what the product does not know beforehand. */
const isOneOf = (known: string, value: string) =>
  known === value || (known.includes('<') && value.startsWith(known.slice(0, known.indexOf('<'))));

describe('the metrics', () => {
  it('balance the books after a storm, refusals, an outage and a kill -9, and their labels stay bounded', async () => {
    await using first = await startOne(dir.path, mock, { limiter: { max_keys: 4_096 } });
    const storm = await generate({ ...STORM, endpoint: first.otlp });
    const afterStorm = await balanced(first.admin, ({ on_disk }) => on_disk === 0);
    const limited = (await scrape(first.admin))
      .filter(({ name }) => name === 'cl_dropped_samples_total' || name === 'cl_aggregated_samples_total')
      .reduce((all, { value }) => all + value, 0);
    expect(limited).toBeGreaterThan(STORM.items / 2);
    // What the limiter takes away is told to the client or is in another point; it was never accepted.
    const kept = STORM.items - limited;
    expect(storm.unknownItems).toBe(0);
    expect(afterStorm).toMatchObject({ accepted: kept, delivered: kept, dropped: 0 });

    mock.set({ refuseRate: 1 });
    await generate({ ...LOAD, endpoint: first.otlp, items: 500 });
    await balanced(first.admin, ({ rejected }) => rejected === 500);
    mock.set({ refuseRate: 0, partialRate: 1 });
    await generate({ ...LOAD, endpoint: first.otlp, items: 500 });
    const { dropped } = await balanced(first.admin, (now) => now.dropped > 0);

    mock.set({ partialRate: 0, outage: true });
    const outage = await generate({ ...LOAD, endpoint: first.otlp, items: 4_000 });
    expect(outage.acknowledgedItems).toBe(4_000);
    const spilled = await balanced(first.admin, ({ on_disk }) => on_disk === 4_000);
    expect(sum(spilled)).toBe(spilled.accepted);
    for (const { name, labels } of await scrape(first.admin)) {
      const spec = Object.values<MetricSpec>(CATALOGUE).find((known) =>
        known.type === 'histogram' ? name.startsWith(`${known.name}_`) : name === known.name,
      );
      for (const label of spec?.labels ?? [])
        expect(
          labelValues(spec!.name, label).some((known) => isOneOf(known, labels[label] ?? '')),
          `${name} ${label}="${labels[label]}"`,
        ).toBe(true);
    }

    // Killed with data on disk and more on its way in.
    const enough = new AbortController();
    const cut = generate({ ...LOAD, endpoint: first.otlp, items: 40_000 }, { signal: enough.signal });
    await waitUntil(async () => (await books(first.admin)).accepted > spilled.accepted + 1_000, {
      what: 'the load is in flight',
    });
    await first.processes.up!.end('SIGKILL');
    enough.abort();
    const { acknowledgedItems } = await cut;

    await using again = await startOne(dir.path, mock, { limiter: { max_keys: 4_096 } });
    const back = await balanced(again.admin, ({ on_disk }) => on_disk >= 4_000 + acknowledgedItems);
    expect(sum(back)).toBe(back.accepted);
    mock.set({ outage: false });
    const end = await balanced(again.admin, ({ on_disk }) => on_disk === 0);
    expect(sum(end)).toBe(end.accepted);
    expect(end.accepted).toBeGreaterThanOrEqual(spilled.accepted + acknowledgedItems);
    expect(end).toMatchObject({ rejected: 500, dropped });
    const reasons = (await scrape(again.admin)).filter(({ name }) => name === 'pipeline_dropped_items_total');
    expect(reasons.reduce((all, { value }) => all + value, 0)).toBe(dropped);
  });

  it('of every service show that Redis is away, and that it is back', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    await using running = await startServices(dir.path, redis, mock, {}, { exporters: 1 });
    const admins = await Promise.all(
      Object.entries(running.processes).map(async ([name, process]) => {
        const [, address = ''] = await process.line(/"admin":"([^"]+)"/);
        return [name, `http://${address}`] as const;
      }),
    );
    const seen = async (up: 0 | 1) => {
      for (const [name, admin] of admins)
        await waitUntil(
          async () => {
            const samples = (await scrape(admin)).filter((sample) => sample.name === 'pipeline_redis_up');
            return samples.length > 0 && samples.every(({ value }) => value === up);
          },
          { what: `${name} says that Redis is ${up ? 'there' : 'away'}` },
        );
    };
    await seen(1);
    const served = await generate({ ...LOAD, endpoint: running.otlp, items: 500 });
    expect(served.acknowledgedItems).toBe(500);
    await redis.kill();
    await seen(0);
    await redis.start();
    await seen(1);
    const [, exporter = ''] = admins.find(([name]) => name === 'exporter1')!;
    const sum = (samples: Sample[], name: string) =>
      samples.filter((sample) => sample.name === name).reduce((all, { value }) => all + value, 0);
    const after = await scrape(exporter);
    expect(sum(after, 'pipeline_redis_reconnects_total')).toBeGreaterThan(0);
    expect(sum(after, 'pipeline_redis_round_trip_seconds_count')).toBeGreaterThan(0);
    expect(sum(after, 'exporter_wait_seconds_count')).toBeGreaterThan(0);
    expect(sum(after, 'pipeline_build_info')).toBe(1);
  });
});
