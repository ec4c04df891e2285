/**
 * What merging costs in receivers and Redis: CPU time per 1,000 points of requests that hold 1,000 cumulative sums each, of
 * 15,000 series that become 240 streams.
 *
 *   passing        one receiver, no label is stripped
 *   merging        one receiver, all points are merged
 *   in turn        the same requests to two receivers in turn: each request finds its sources moved by the other receiver
 *
 * Run: node tests/bench/merging.ts [requests per row] [part of a row's name]
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type MockUpstream, startMockUpstream, TestRedis, temporaryDirectory } from '@nrdot/testbed';
import { encode, type PointData } from '../../services/receiver/src/limiter/test/otlp.ts';
import { scrape, startServices, untilQuiet } from '../kit.ts';
import { cpuMs } from './process-tree.ts';

const requests = Number(process.argv[2] ?? 400);
const POINTS = 1000;
/** An odd multiple of the points, so that two receivers in turn have all sources in turn. */
const SERIES = 15_000;
const METRICS = 10;
const ROUTES = 24;
const WARM_UP = 80;
const PACE_MS = 20;
const ENDLESS = 'user.id';
const START_NS = BigInt(Date.now()) * 1_000_000n;

function body(request: number): Uint8Array {
  const time = BigInt(Date.now()) * 1_000_000n;
  const metrics = Array.from({ length: METRICS }, (_, metric) => ({
    name: `http.server.metric_${metric}`,
    unit: '1',
    kind: 'sum' as const,
    temporality: 2 as const,
    monotonic: true,
    points: Array.from({ length: POINTS / METRICS }, (_, i): PointData => {
      const id = ((request * POINTS) % SERIES) + metric * (POINTS / METRICS) + i;
      return {
        labels: {
          'http.request.method': 'GET',
          'http.route': `/api/v1/orders/${id % ROUTES}`,
          'http.response.status_code': 200n,
          'server.address': 'orders.shop.svc.cluster.local',
          [ENDLESS]: `u-${id.toString(36).padStart(10, '0')}`,
        },
        start: START_NS,
        time,
        int: BigInt(request),
      };
    }),
  }));
  const labels = { 'service.name': 'orders', 'host.name': 'node-17' };
  return encode([{ labels, scopes: [{ name: 'bench', metrics }] }]);
}

interface Row {
  name: string;
  receivers: number;
  limiter: Record<string, unknown>;
}

const merging = { act_above: 0, aggregate_labels: [ENDLESS] };
const ROWS: Row[] = [
  { name: 'passing', receivers: 1, limiter: {} },
  { name: 'merging', receivers: 1, limiter: merging },
  { name: 'in turn', receivers: 2, limiter: merging },
];

async function measure({ name, receivers, limiter }: Row, mock: MockUpstream): Promise<void> {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const config = { limiter };
  await using running = await startServices(dir.path, redis, mock, config, {
    exporters: 1,
    receivers,
  });
  const pids = Object.entries(running.processes)
    .filter(([service]) => service.startsWith('receiver'))
    .map(([, { pid }]) => pid);
  const cpu = () => ({ receivers: pids.reduce((sum, pid) => sum + cpuMs(pid), 0), redis: cpuMs(redis.pid) });
  let sent = 0;
  let refused = 0;
  const send = async () => {
    const bytes = body(sent);
    const { otlp } = running.receivers[sent % receivers]!;
    sent++;
    const headers = { 'content-type': 'application/x-protobuf' };
    const answer = await fetch(`${otlp}/v1/metrics`, { method: 'POST', headers, body: bytes });
    await answer.arrayBuffer();
    if (!answer.ok) refused++;
    await sleep(PACE_MS);
  };
  for (let i = 0; i < WARM_UP; i++) await send();
  refused = 0;
  const merged = async () => {
    const pages = await Promise.all(running.receivers.map(({ admin }) => scrape(admin)));
    const samples = pages.flat().filter((sample) => sample.name === 'cl_aggregated_samples_total');
    return samples.reduce((sum, { value }) => sum + value, 0);
  };
  const mergedBefore = await merged();
  const before = cpu();
  for (let i = 0; i < requests; i++) await send();
  const after = cpu();
  const share = ((await merged()) - mergedBefore) / (requests * POINTS);
  const per = (ms: number) => (ms / requests).toFixed(2).padStart(6);
  console.log(
    `${name.padEnd(8)} ${per(after.receivers - before.receivers)} ms in receivers, ` +
      `${per(after.redis - before.redis)} ms in Redis, ${Math.round(100 * share)} % merged away, ${refused} of ${requests} requests refused`,
  );
  await untilQuiet(running.admin, 60_000);
}

console.log(
  `CPU time per ${POINTS} points, ${requests} requests ${PACE_MS} ms apart, Node ${process.version}`,
);
const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
try {
  for (const row of ROWS.filter(({ name }) => name.includes(process.argv[3] ?? ''))) await measure(row, mock);
} finally {
  await mock.close();
}
