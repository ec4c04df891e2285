import { describe, expect, it } from 'vitest';
import { generate, startMockUpstream } from './index.ts';

const load = { rate: 0, batchSize: 500, seed: 11, signals: { metrics: 1 }, metricKinds: { sum: 1 } } as const;

describe('streams at the mock upstream', () => {
  it('are as many as the distinct key-sets sent', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    const report = await generate({ ...load, items: 9_000, cardinality: 3_000, endpoint: mock.url });
    expect(report.acknowledgedItems).toBe(9_000);
    expect(mock.stats().streams).toBe(3_000);
    mock.reset();
    expect(mock.stats().streams).toBe(0);
    await mock.close();
  });

  it('have a total that equals the number of points if values are 1', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    const report = await generate({
      ...load,
      items: 5_000,
      cardinality: 700,
      unitValues: true,
      endpoint: mock.url,
    });
    expect(report.acknowledgedDeltaSum).toBe(5_000);
    expect(mock.stats()).toMatchObject({ streams: 700, deltaSum: 5_000 });
    await mock.close();
  });
});
