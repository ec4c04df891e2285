/** The OpenTelemetry Collector, otlphttp in and out. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, Process, waitUntil } from '@nrdot/testbed';
import { running, type System } from '../system.ts';
import type { Peer } from './build.ts';

const QUEUES = { memory: 'memory queue', file: 'file_storage', fsync: 'file_storage, fsync' } as const;
type Queue = keyof typeof QUEUES;

/** Its forms: three queues, each with and without the batch processor. */
export function collectors(peer: Peer): System[] {
  return [false, true].flatMap((batching) =>
    (Object.keys(QUEUES) as Queue[]).map((queue) => collector(peer, queue, batching)),
  );
}

function collector({ program, version }: Peer, queue: Queue, batching: boolean): System {
  return {
    name: `Collector, ${QUEUES[queue]}${batching ? ', batch processor' : ''}`,
    // The batch processor acknowledges what is in its memory, whatever the queue behind it does.
    durability: batching || queue === 'memory' ? 'in memory' : queue === 'fsync' ? 'fsynced' : 'written',
    version: `OpenTelemetry Collector ${version}`,
    start: async (dir, upstream) => {
      const port = await freePort();
      const file = join(dir, 'collector.yaml');
      writeFileSync(file, JSON.stringify(configuration(dir, port, upstream, queue, batching)));
      const otelcol = new Process('collector', program, ['--config', file], {}, dir);
      const system = running(`http://127.0.0.1:${port}`, { otelcol });
      await waitUntil(
        async () => {
          if (!otelcol.running) throw new Error(otelcol.output());
          return (await fetch(`${system.otlp}/v1/traces`)).status === 405;
        },
        { what: 'the Collector listens' },
      );
      return system;
    },
  };
}

function configuration(dir: string, port: number, upstream: string, queue: Queue, batching: boolean): object {
  const durable = queue !== 'memory';
  const storage = join(dir, 'storage');
  mkdirSync(storage);
  const pipeline = {
    receivers: ['otlp'],
    exporters: ['otlphttp'],
    ...(batching ? { processors: ['batch'] } : {}),
  };
  return {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    ...(batching ? { processors: { batch: {} } } : {}),
    exporters: {
      otlphttp: {
        endpoint: upstream,
        sending_queue: { enabled: true, ...(durable ? { storage: 'file_storage' } : {}) },
      },
    },
    ...(durable ? { extensions: { file_storage: { directory: storage, fsync: queue === 'fsync' } } } : {}),
    service: {
      ...(durable ? { extensions: ['file_storage'] } : {}),
      telemetry: { metrics: { level: 'none' } },
      pipelines: { traces: pipeline, metrics: pipeline, logs: pipeline },
    },
  };
}
