import { MetricsRegistry, type Transitions } from '@nrdot/telemetry';
import { expect, it } from 'vitest';
import { MetricSender } from './metric-sender.ts';
import { OwnMetrics } from './own-metrics.ts';

it('distrusts a response that rejects more points than were sent', async () => {
  const registry = new MetricsRegistry(['receiver']);
  registry.metrics.receiverItems.inc({ signal: 'logs' }, 12);
  const told: [state: string, message: string][] = [];
  const sender = new MetricSender(3_600_000, {
    ...{ registry, metrics: registry.metrics, where: 'http://backend', now: () => 1_000 },
    own: new OwnMetrics({
      ...{ resource: {}, scope: { name: 'nrdot', version: '1' }, temporality: 'cumulative', startedAtMs: 0 },
    }),
    send: async () => ({ kind: 'delivered', refusedItems: 1e9, message: 'no room' }),
    transitions: {
      to: (_: string, state: string, { message }: { message: string }) => told.push([state, message]),
    } as unknown as Transitions,
  });
  await sender.turn();
  await sender.stop(0);
  expect(told[0]).toEqual(['refused', expect.stringMatching(/rejected (\d+) of \1 points of this process/)]);
  const points = await registry.families();
  expect(points.find(({ name }) => name === 'pipeline_telemetry_points_total')!.series[0]!.value).toBe(0);
});
