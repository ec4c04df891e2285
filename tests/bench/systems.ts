/** What is measured: NRDOT+ in its forms, and its peers. Each runs with its own defaults but for addresses and directories. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, Process, TestRedis, waitUntil } from '@nrdot/testbed';
import { collectorBinary } from './peers/build.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface RunningSystem {
  /** Base URL that takes OTLP/HTTP. */
  otlp: string;
  /** Its processes by name; what they started belongs to them. */
  roots: Record<string, number>;
  output(): string;
  stop(): Promise<void>;
}

export interface System {
  name: string;
  /** What an acknowledged batch has been through when the client sees its 200. */
  durability: 'fsynced' | 'written' | 'in memory';
  start(dir: string, upstream: string): Promise<RunningSystem>;
}

let nodeFlags: readonly string[] = [];

/** The pipeline in one process with its private Redis; from source or from the bundle. */
function onePipeline(form: 'source' | 'bundle'): System {
  return {
    name: form === 'source' ? 'NRDOT+ one process, from source' : 'NRDOT+ one process',
    durability: 'fsynced',
    start: async (dir, upstream) => {
      const up = nrdot(form, dir, ['up', '--config', config(dir, {}), '--upstream', upstream]);
      const [, otlp = ''] = await up.line(/send OTLP\/HTTP to\s+(\S+)/);
      return running(otlp, { 'nrdot up': up });
    },
  };
}

/** Four processes and a Redis. */
function services(): System {
  return {
    name: 'NRDOT+ four services',
    durability: 'fsynced',
    start: async (dir, upstream) => {
      const redisDir = join(dir, 'redis');
      mkdirSync(redisDir);
      const redis = await TestRedis.start({ dir: redisDir });
      const file = config(dir, { redis: { url: redis.url } });
      const processes: Record<string, Process> = {};
      for (const name of ['dlq', 'exporter', 'scheduler', 'receiver']) {
        const upstreamFlag = name === 'exporter' ? ['--upstream', upstream] : [];
        processes[name] = nrdot('bundle', dir, [name, '--config', file, ...upstreamFlag]);
        await processes[name].line(/"msg":"started"/);
      }
      const [, address = ''] = await processes.receiver!.line(/"address":"([^"]+)","msg":"receiving/);
      const system = running(`http://${address}`, processes);
      return {
        ...system,
        roots: { ...system.roots, 'redis-server': redis.pid },
        stop: async () => {
          await system.stop();
          await redis.stop();
        },
      };
    },
  };
}

function nrdot(form: 'source' | 'bundle', dir: string, args: string[]): Process {
  const program = form === 'source' ? 'cli/bin/nrdot.js' : 'dist/nrdot.js';
  return new Process(
    `nrdot ${args[0]}`,
    process.execPath,
    [...nodeFlags, join(ROOT, program), ...args],
    {},
    dir,
  );
}

function config(dir: string, more: object): string {
  const file = join(dir, 'nrdot.yaml');
  const any = { listen: '127.0.0.1:0' };
  writeFileSync(
    file,
    JSON.stringify({ data_dir: join(dir, 'data'), receiver: any, admin: any, dlq: any, ...more }),
  );
  return file;
}

/** The OpenTelemetry Collector, otlphttp in and out. */
function collector(binary: string, queue: 'memory' | 'file' | 'fsync', batching: boolean): System {
  const words = { memory: 'memory queue', file: 'file_storage', fsync: 'file_storage, fsync' }[queue];
  return {
    name: `Collector, ${words}${batching ? ', batch processor' : ''}`,
    // The batch processor acknowledges what is in its memory, whatever the queue behind it does.
    durability: batching || queue === 'memory' ? 'in memory' : queue === 'fsync' ? 'fsynced' : 'written',
    start: async (dir, upstream) => {
      const port = await freePort();
      const storage = join(dir, 'storage');
      mkdirSync(storage);
      const pipeline = {
        receivers: ['otlp'],
        exporters: ['otlphttp'],
        ...(batching ? { processors: ['batch'] } : {}),
      };
      const file = join(dir, 'collector.yaml');
      writeFileSync(
        file,
        JSON.stringify({
          receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
          ...(batching ? { processors: { batch: {} } } : {}),
          exporters: {
            otlphttp: {
              endpoint: upstream,
              sending_queue:
                queue === 'memory' ? { enabled: true } : { enabled: true, storage: 'file_storage' },
            },
          },
          ...(queue === 'memory'
            ? {}
            : { extensions: { file_storage: { directory: storage, fsync: queue === 'fsync' } } }),
          service: {
            ...(queue === 'memory' ? {} : { extensions: ['file_storage'] }),
            telemetry: { metrics: { level: 'none' } },
            pipelines: { traces: pipeline, metrics: pipeline, logs: pipeline },
          },
        }),
      );
      const otelcol = new Process('collector', binary, ['--config', file], {}, dir);
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

function running(otlp: string, processes: Record<string, Process>): RunningSystem {
  const all = Object.entries(processes);
  return {
    otlp,
    roots: Object.fromEntries(all.map(([name, { pid }]) => [name, pid])),
    output: () => all.map(([name, process]) => `${name}: ${process.output(10)}`).join('\n'),
    stop: async () => {
      for (const [, process] of all.reverse()) await process.end('SIGTERM');
    },
  };
}

/**
 * All systems that can run here.
 * @param peers whether to build and run those of others
 * @param flagsOfNode to try, on NRDOT+ alone
 */
export async function systems(
  peers: boolean,
  say: (line: string) => void,
  flagsOfNode: readonly string[] = [],
): Promise<System[]> {
  nodeFlags = flagsOfNode;
  const ours = existsSync(join(ROOT, 'dist/nrdot.js')) ? [onePipeline('bundle'), services()] : [];
  const binary = peers ? await collectorBinary(say) : undefined;
  const theirs = binary
    ? [false, true].flatMap((batching) =>
        (['memory', 'file', 'fsync'] as const).map((queue) => collector(binary, queue, batching)),
      )
    : [];
  return [...ours, onePipeline('source'), ...theirs];
}
