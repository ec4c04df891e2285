import { measure } from '../measure.ts';
import { services } from '../systems.ts';
import { form, type Growth, type Stand, total } from './growth.ts';

const UPSTREAM_MS = 50;
/** More than four exporters can send: what is left over waits. */
const OFFERED = 120;
const BATCH = 100;
const TIMING = { warmUpMs: 3_000, measureMs: 5_000 };

export const exporters: Growth = {
  title: 'Exporters against a slow upstream',
  about: `The four services, with 1, 2 and 4 exporters. The upstream takes ${UPSTREAM_MS} ms for an answer, each exporter sends one request at a time (\`exporter.concurrency: 1\`), and batches are not merged (\`scheduler.merge_bytes: 1\`), so that the upstream's time is what limits one exporter: 20 batches/s at best. ${OFFERED} requests/s of ${BATCH} spans come in. Throughput should grow with the exporters; the CPU per batch should not.`,
  x: 'exporters',
  show: String,
  scale: 'linear',
  charts: [
    {
      name: 'throughput',
      title: 'Batches delivered per second',
      unit: '/s',
      lines: { perSecond: 'delivered', best: 'the most that the upstream allows' },
    },
    {
      name: 'cost',
      title: 'CPU per batch delivered, by the exporters',
      unit: 'ms',
      lines: { exportMs: 'exporters' },
    },
  ],
  points: [1, 2, 4],
  seconds: 50,
  run: steps,
};

async function* steps({ dir, sink, say }: Stand, counts: readonly number[]) {
  const slow = { exporter: { concurrency: 1 }, scheduler: { merge_bytes: 1 } };
  for (const count of counts) {
    const system = await services(form(slow), { exporters: count }).start(`${dir}/${count}`, sink.url);
    try {
      const workload = { rate: OFFERED * BATCH, batchSize: BATCH, encoding: 'gzip', connections: 8 } as const;
      const { cpu, arrivedPerSecond } = await measure(
        system,
        sink,
        { name: 'slow upstream', workload, delayMs: UPSTREAM_MS, arrivalTimeoutMs: 0 },
        TIMING,
      );
      const perSecond = arrivedPerSecond / BATCH;
      const own = Object.entries(cpu).filter(([name]) => name.startsWith('exporter'));
      const exportMs = total(Object.fromEntries(own)) / OFFERED; // at the rate offered, whatever was delivered
      const values = { perSecond, best: (count * 1000) / UPSTREAM_MS, exportMs };
      say(`${count} exporters: ${JSON.stringify(values)}`);
      yield { x: count, values };
    } finally {
      await system.stop();
    }
  }
}
