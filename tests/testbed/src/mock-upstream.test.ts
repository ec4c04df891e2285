import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import { complaint, generate, judge, startMockUpstream } from './index.ts';

const load = { rate: 0, batchSize: 40, items: 400, seed: 7, retryForMs: 20_000, retryInitialMs: 5 } as const;

describe('generator and mock upstream', () => {
  for (const format of ['protobuf', 'json'] as const) {
    for (const encoding of ['identity', 'gzip', 'deflate', 'zstd'] as const) {
      it(`agree on every item, ${format} in ${encoding}`, async () => {
        const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
        const signals = { traces: 1, logs: 1, metrics: 1 };
        const classes = { critical: 1, normal: 1 };
        const report = await generate({ ...load, endpoint: mock.url, format, encoding, signals, classes });
        expect(report.acknowledgedItems).toBe(400);
        expect(complaint(judge(report, mock.received(report.run)))).toBe('');
        const stats = mock.stats();
        expect(stats).toMatchObject({
          items: 400,
          duplicates: 0,
          corrupted: 0,
          foreign: 0,
          misplaced: 0,
          unreadable: 0,
        });
        expect(stats.byClass.critical + stats.byClass.normal).toBe(400);
        expect(stats.bySignal).toEqual(report.bySignal);
        if (format === 'protobuf') expect(stats.deltaSum).toBeCloseTo(report.acknowledgedDeltaSum, 6);
        await mock.close();
      });
    }
  }

  it('listen on all addresses if none is given', async () => {
    const mock = await startMockUpstream({ listen: ':0' });
    const { port } = new URL(mock.url);
    const hosts = networkInterfaces().lo?.some(({ family }) => family === 'IPv6')
      ? ['127.0.0.1', '[::1]']
      : ['127.0.0.1'];
    for (const host of hosts) expect((await fetch(`http://${host}:${port}/_mock/stats`)).status).toBe(200);
    await mock.close();
  });

  it('classify faults: retries deliver, refusals do not, broken connections duplicate', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    mock.set({ errorRate: 0.2, throttleRate: 0.1, refuseRate: 0.1, cutRate: 0.1 });
    const report = await generate({ ...load, items: 2_000, endpoint: mock.url });
    expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    expect(report.retries).toBeGreaterThan(0);
    expect(report.refusedItems + report.acknowledgedItems).toBe(2_000);
    await mock.close();
  });

  it('detect missing, invented and damaged items', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', keep: 1 });
    const report = await generate({ ...load, items: 40, encoding: 'identity', endpoint: mock.url });
    const [kept] = mock.kept();
    mock.reset();
    expect(complaint(judge(report, mock.received(report.run)))).toMatch(
      /^40 acknowledged items are missing: 0–39/,
    );
    const post = (body: Buffer) =>
      fetch(`${mock.url}/v1/traces`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-protobuf' },
        body: new Uint8Array(body),
      });
    const damaged = Buffer.from(kept!.body);
    damaged[damaged.indexOf('GET ') >= 0 ? damaged.indexOf('GET ') : damaged.byteLength - 30]! ^= 1;
    await post(damaged);
    expect(mock.stats().corrupted).toBe(1);
    report.acknowledged = report.unknown;
    expect(complaint(judge(report, mock.received(report.run)))).toMatch(
      /^39 items arrived that were not taken/,
    );
    await mock.close();
  });

  it('detect a request with mixed classes', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', keep: 2 });
    const classes = { critical: 1, normal: 1 };
    await generate({ ...load, items: 80, encoding: 'identity', classes, endpoint: mock.url });
    expect(mock.stats().mixedClasses).toBe(0);
    // Concatenated protobuf messages are one with the items of both.
    const body = new Uint8Array(Buffer.concat(mock.kept().map((kept) => kept.body)));
    const headers = { 'content-type': 'application/x-protobuf' };
    await fetch(`${mock.url}/v1/traces`, { method: 'POST', headers, body });
    expect(mock.stats()).toMatchObject({ mixedClasses: 1, duplicates: 80 });
    await mock.close();
  });

  it('are controlled over HTTP, and explain invalid commands', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    const put = (body: string) => fetch(`${mock.url}/_mock/behaviour`, { method: 'PUT', body });
    expect((await put('{"status":503,"retryAfterSeconds":7}')).status).toBe(200);
    const refused = await fetch(`${mock.url}/v1/logs`, { method: 'POST', body: '' });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '7']);
    expect(await (await put('{"statsu":1}')).text()).toContain('there is no statsu');
    expect(await (await put('{"status":"x"}')).text()).toContain('expected a number');
    await fetch(`${mock.url}/_mock/outage/on`, { method: 'POST' });
    await expect(fetch(`${mock.url}/v1/logs`, { method: 'POST', body: '' })).rejects.toThrow();
    await fetch(`${mock.url}/_mock/outage/off`, { method: 'POST' });
    await put('{"status":0}');
    expect((await fetch(`${mock.url}/v1/logs`, { method: 'POST', body: '' })).status).toBe(200);
    await mock.close();
  });
});
