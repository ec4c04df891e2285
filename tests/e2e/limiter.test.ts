import { generate, startMockUpstream, TestRedis, temporaryDirectory } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startOne, startServices, untilQuiet } from '../kit.ts';

const MAX_KEYS = 65_536;
/** One metric of delta sums; every point is worth 1, so that a total counts points. */
const STORM = {
  rate: 0,
  batchSize: 2_000,
  signals: { metrics: 1 },
  metricKinds: { sum: 1 },
  unitValues: true,
  encoding: 'identity',
  connections: 4,
} as const;

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

const metric = async (admin: string, name: string): Promise<number> => {
  const text = await (await fetch(`${admin}/metrics`)).text();
  const rows = text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'));
  return [...rows].reduce((sum, [, value]) => sum + Number(value), 0);
};

describe('a storm of key-sets', () => {
  it('reaches the upstream as at most max_keys streams, and complete: the excess goes into the overflow stream', async () => {
    await using running = await startOne(dir.path, mock);
    const sent = 1_000_000;
    const report = await generate({ ...STORM, endpoint: running.otlp, items: sent, cardinality: sent });
    expect(report).toMatchObject({ acknowledgedItems: sent, rejectedItems: 0 });
    await untilQuiet(running.admin, 60_000);

    expect(await metric(running.admin, 'cl_dropped_samples_total')).toBe(0);
    const upstream = mock.stats();
    expect(upstream.streams).toBeLessThanOrEqual(MAX_KEYS);
    expect(upstream.streams).toBeGreaterThan(MAX_KEYS / 4);
    expect(upstream.items).toBe(sent - (await metric(running.admin, 'cl_aggregated_samples_total')));
    expect(upstream.deltaSum).toBe(sent);
    expect(await metric(running.admin, 'cl_keys_used')).toBeLessThanOrEqual(MAX_KEYS);
  });

  it('is reduced by what is counted as dropped, if so configured', async () => {
    await using running = await startOne(dir.path, mock, { limiter: { critical_action: 'drop' } });
    const sent = 400_000;
    const report = await generate({ ...STORM, endpoint: running.otlp, items: sent, cardinality: sent });
    expect(report).toMatchObject({ items: sent, refusedItems: 0, unknownItems: 0 });
    await untilQuiet(running.admin, 60_000);

    const dropped = await metric(running.admin, 'cl_dropped_samples_total');
    expect(dropped).toBeGreaterThan(sent / 2);
    // The client was told of each, by partial_success.
    expect(report.rejectedItems).toBe(dropped);
    expect(report.messages.join()).toMatch(/limiter dropped points: \d+ of .*k8s\.pod\.uid/);
    const upstream = mock.stats();
    expect(upstream.streams).toBeLessThanOrEqual(MAX_KEYS);
    expect(upstream.streams).toBeGreaterThan(MAX_KEYS / 4);
    expect(upstream.items).toBe(sent - dropped);
    expect(upstream.deltaSum).toBe(sent - dropped);
    expect(await metric(running.admin, 'cl_keys_used')).toBeLessThanOrEqual(MAX_KEYS);
  });

  it('keeps the total if the label may be stripped', async () => {
    await using running = await startOne(dir.path, mock, {
      limiter: { aggregate_labels: ['k8s.pod.uid', 'host.name'] },
    });
    const sent = 300_000;
    const report = await generate({ ...STORM, endpoint: running.otlp, items: sent, cardinality: sent });
    expect(report).toMatchObject({ acknowledgedItems: sent, rejectedItems: 0 });
    await untilQuiet(running.admin, 60_000);
    expect(await metric(running.admin, 'cl_dropped_samples_total')).toBe(0);
    expect(await metric(running.admin, 'cl_aggregated_samples_total')).toBeGreaterThan(sent / 2);
    const upstream = mock.stats();
    expect(upstream.streams).toBeLessThanOrEqual(MAX_KEYS);
    expect(upstream.deltaSum).toBe(sent);
    expect(upstream.items).toBeLessThan(sent);
    const { decisions } = (await (await fetch(`${running.admin}/api/limiter`)).json()) as {
      decisions: { metric: string; label: string }[];
    };
    expect(decisions.map(({ label }) => label)).toContain('k8s.pod.uid');
  });

  it('is unchanged in observe mode, which reports what would be done', async () => {
    await using running = await startOne(dir.path, mock, { limiter: { mode: 'observe', max_keys: 2_048 } });
    const sent = 40_000;
    const report = await generate({ ...STORM, endpoint: running.otlp, items: sent, cardinality: sent });
    expect(report).toMatchObject({ acknowledgedItems: sent, rejectedItems: 0 });
    await untilQuiet(running.admin);
    expect(mock.stats()).toMatchObject({ items: sent, deltaSum: sent, streams: sent });
    const { totals } = (await (await fetch(`${running.admin}/api/limiter`)).json()) as {
      totals: Record<'observedDropped' | 'observedAggregated' | 'observedOverflow', number>;
    };
    const touched = totals.observedDropped + totals.observedAggregated + totals.observedOverflow;
    expect(touched).toBeGreaterThan(sent / 2);
  });

  it('is limited by several receivers together', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    const maxKeys = 4_096;
    await using running = await startServices(
      dir.path,
      redis,
      mock,
      { limiter: { max_keys: maxKeys } },
      { exporters: 1, receivers: 2 },
    );
    const reports = await Promise.all(
      running.receivers.map(({ otlp }, i) =>
        generate({ ...STORM, endpoint: otlp, items: 40_000, cardinality: 40_000, seed: i + 1 }),
      ),
    );
    const used = await Promise.all(running.receivers.map(({ admin }) => metric(admin, 'cl_keys_used')));
    expect(Math.max(...used)).toBeLessThanOrEqual(maxKeys);
    await untilQuiet(running.admin);
    const upstream = mock.stats();
    expect(upstream.streams).toBeLessThanOrEqual(maxKeys);
    expect(upstream.deltaSum).toBe(reports.reduce((sum, report) => sum + report.acknowledgedItems, 0));
  });
});
