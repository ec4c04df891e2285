import { setTimeout as sleep } from 'node:timers/promises';
import { nextRun } from '../measure.ts';
import { cpuNow } from '../sampler.ts';
import { services } from '../systems.ts';
import { send } from '../upstream.ts';
import { form, type Growth, type Stand, spentMs } from './growth.ts';

const SPANS = 5;
const LOAD = { rate: 0, batchSize: SPANS, connections: 32, encoding: 'identity' } as const;
const WARM_UP_MS = 3_000;
const MEASURE_MS = 5_000;
const SETTLE_MS = 500;

export const receivers: Growth = {
  title: 'Receivers',
  about: `The four services, with 1, 2 and 4 receivers, each under a closed loop of ${LOAD.connections} connections that send ${SPANS} spans per request. Load generators, upstream, Redis and all services share the cores, so the rate of the whole says little; what a receiver process spends on a request is what decides how many a core of its own carries, and should stay the same.`,
  x: 'receivers',
  show: String,
  scale: 'linear',
  charts: [
    {
      name: 'cost',
      title: 'CPU per request',
      unit: 'µs',
      lines: { receiverUs: 'receivers', redisUs: 'Redis', wholeUs: 'the whole pipeline' },
    },
    {
      name: 'rate',
      title: 'Requests per second, all on this machine',
      unit: '/s',
      lines: { rate: 'requests' },
    },
  ],
  points: [1, 2, 4],
  seconds: 50,
  run: steps,
};

async function* steps({ dir, sink, say }: Stand, counts: readonly number[]) {
  for (const count of counts) {
    const system = await services(form(), { receivers: count }).start(`${dir}/${count}`, sink.url);
    try {
      const loads = (durationMs: number) =>
        Promise.all(
          system.receivers.map((endpoint) => send({ ...LOAD, endpoint, run: nextRun(), durationMs })),
        );
      await loads(WARM_UP_MS);
      const before = cpuNow(system.roots);
      const sent = await loads(MEASURE_MS);
      await sleep(SETTLE_MS);
      const after = cpuNow(system.roots);
      const requests = sent.reduce((sum, { acknowledgedItems }) => sum + acknowledgedItems / SPANS, 0);
      const usOf = (name: string) => {
        const only = (cpu: Record<string, number>) =>
          Object.fromEntries(Object.entries(cpu).filter(([process]) => process.startsWith(name)));
        return (spentMs(only(before), only(after)) * 1000) / requests;
      };
      const values = {
        receiverUs: usOf('receiver'),
        redisUs: usOf('redis'),
        wholeUs: usOf(''),
        rate: sent.reduce((sum, { batches, elapsedMs }) => sum + (batches * 1000) / elapsedMs, 0),
      };
      say(`${count} receivers: ${JSON.stringify(values)}`);
      yield { x: count, values };
    } finally {
      await system.stop();
    }
  }
}
