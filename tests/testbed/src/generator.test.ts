import { describe, expect, it } from 'vitest';
import { generate } from './generator.ts';
import { startMockUpstream } from './mock-upstream.ts';
import { complaint, judge } from './oracle.ts';
import { waitUntil } from './wait-until.ts';

describe('a generator that is asked to finish', () => {
  it('waits for requests in flight, so that the outcome of every item is known', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { latencyMs: 50 } });
    try {
      const finish = new AbortController();
      const load = generate(
        { endpoint: mock.url, rate: 0, batchSize: 10, connections: 4 },
        { finish: finish.signal },
      );
      await waitUntil(() => mock.stats().requests > 4, { what: 'requests are in flight' });
      finish.abort();
      const report = await load;
      expect(report.unknownItems).toBe(0);
      expect(report.acknowledgedItems).toBe(report.items);
      expect(complaint(judge(report, mock.received(report.run)))).toBe('');
    } finally {
      await mock.close();
    }
  });

  it('stops sending, even if the next batch is not due for long', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    try {
      const finish = new AbortController();
      const load = generate(
        { endpoint: mock.url, rate: 0.001, batchSize: 1, connections: 1 },
        { finish: finish.signal },
      );
      await waitUntil(() => mock.stats().items === 1, { what: 'the first batch arrived' });
      finish.abort();
      expect((await load).items).toBe(1);
    } finally {
      await mock.close();
    }
  });
});
