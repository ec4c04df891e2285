import { type Drain, drain as measured } from '../draining.ts';
import { ourForm, programOf } from '../systems.ts';
import type { Growth, Stand } from './growth.ts';

const MIB = 1048576;
/** Spans that wait: fewer in small requests, which take longer. */
const spansOf = (perRequest: number) => (perRequest < 50 ? 100_000 : 400_000);

export const drain: Growth = {
  title: 'Drain of a backlog',
  about:
    'The four services. Requests are taken in, gzip, while no exporter runs; then one sends them on as fast as it can. Once as it is, where what waits together leaves in one request, and once with `scheduler.merge_bytes: 1`, where each leaves by itself. MiB are of OTLP before compression; the start of the exporter is not in the CPU. Merging makes what small requests cost into what large ones do.',
  x: 'spans per request',
  show: String,
  scale: 'log',
  charts: [
    {
      name: 'throughput',
      title: 'Throughput',
      unit: 'MiB/s',
      lines: { mergedRate: 'merged', unmergedRate: 'not merged' },
    },
    {
      name: 'exporter',
      title: 'CPU of the exporter per MiB',
      unit: 'ms',
      lines: { mergedExporterMs: 'merged', unmergedExporterMs: 'not merged' },
    },
    {
      name: 'whole',
      title: 'CPU per MiB, all services and Redis',
      unit: 'ms',
      lines: { mergedMs: 'merged', unmergedMs: 'not merged' },
    },
  ],
  points: [5, 50, 500],
  seconds: 75,
  run: steps,
};

async function* steps({ sink, say }: Stand, points: readonly number[]) {
  const program = programOf(ourForm());
  for (const batchSize of points) {
    const backlog = { items: spansOf(batchSize), batchSize };
    const merged = perMiB(await measured(program, sink, backlog));
    const unmerged = perMiB(await measured(program, sink, backlog, { scheduler: { merge_bytes: 1 } }));
    const values = {
      ...{ mergedRate: merged.rate, mergedExporterMs: merged.exporterMs, mergedMs: merged.allMs },
      ...{ unmergedRate: unmerged.rate, unmergedExporterMs: unmerged.exporterMs, unmergedMs: unmerged.allMs },
    };
    say(`${batchSize} spans per request: ${JSON.stringify(values)}`);
    yield { x: batchSize, values };
  }
}

function perMiB({ seconds, exporterMs, allMs, bodyBytes }: Drain) {
  const mib = bodyBytes / MIB;
  return { rate: mib / seconds, exporterMs: exporterMs / mib, allMs: allMs / mib };
}
