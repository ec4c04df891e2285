/** What is measured: NRDOT+ in its forms, and its peers. Each runs with its own defaults but for addresses and directories. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Process, TestRedis } from '@nrdot/testbed';
import * as build from './peers/build.ts';
import { collectors } from './peers/collector.ts';
import { rotels } from './peers/rotel.ts';
import { vmagent } from './peers/vmagent.ts';
import { running, type System } from './system.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface Form {
  /** The bundle in dist/, or the sources. */
  from: 'bundle' | 'source';
  /** Of Node, to try or to profile. */
  nodeFlags?: readonly string[];
  /** Options beside addresses and directories. */
  options?: Record<string, object>;
}

/** The pipeline in one process with its private Redis. */
export function onePipeline({ from, nodeFlags = [], options = {} }: Form): System {
  return {
    name: from === 'source' ? 'NRDOT+ one process, from source' : 'NRDOT+ one process',
    durability: 'fsynced',
    start: async (dir, upstream) => {
      const args = ['up', '--config', config(dir, options), '--upstream', upstream];
      const up = nrdot(from, nodeFlags, dir, args);
      const [, otlp = ''] = await up.line(/send OTLP\/HTTP to\s+(\S+)/, 300_000);
      const [, socket = ''] = await up.line(/redis-cli -s (\S+)/);
      return { ...running(otlp, { 'nrdot up': up }), redisUrl: `unix://${socket}` };
    },
  };
}

/** Each service as processes of its own, and a Redis. */
export function services(
  { from, nodeFlags = [], options = {} }: Form,
  { receivers = 1, exporters = 1 } = {},
): System {
  return {
    name: 'NRDOT+ four services',
    durability: 'fsynced',
    start: async (dir, upstream) => {
      const redisDir = join(dir, 'redis');
      mkdirSync(redisDir, { recursive: true });
      const redis = await TestRedis.start({ dir: redisDir });
      const file = config(dir, { redis: { url: redis.url }, ...options });
      const processes: Record<string, Process> = {};
      const addresses: string[] = [];
      for (const [service, count] of [
        ['dlq', 1],
        ['exporter', exporters],
        ['scheduler', 1],
        ['receiver', receivers],
      ] as const) {
        for (let n = 1; n <= count; n++) {
          const flags = service === 'exporter' ? ['--upstream', upstream] : [];
          const process = nrdot(from, nodeFlags, dir, [service, '--config', file, ...flags]);
          processes[count === 1 ? service : `${service} ${n}`] = process;
          await process.line(/"msg":"started"/);
          if (service !== 'receiver') continue;
          const [, address] = await process.line(/"address":"([^"]+)","msg":"receiving/);
          addresses.push(`http://${address}`);
        }
      }
      const system = running(addresses[0]!, processes);
      return {
        ...system,
        receivers: addresses,
        redisUrl: redis.url,
        roots: { ...system.roots, 'redis-server': redis.pid },
        stop: async () => {
          await system.stop();
          await redis.stop();
        },
      };
    },
  };
}

function nrdot(from: Form['from'], nodeFlags: readonly string[], dir: string, args: string[]): Process {
  return new Process(`nrdot ${args[0]}`, process.execPath, [...nodeFlags, programOf(from), ...args], {}, dir);
}

/** The program that Node runs. */
export function programOf(from: Form['from']): string {
  return join(ROOT, from === 'source' ? 'cli/bin/nrdot.js' : 'dist/nrdot.js');
}

function config(dir: string, options: Record<string, object>): string {
  const file = join(dir, 'nrdot.yaml');
  const any = { listen: '127.0.0.1:0' };
  const whole = { data_dir: join(dir, 'data'), receiver: any, admin: any, dlq: any, ...options };
  writeFileSync(file, JSON.stringify(whole));
  return file;
}

/** Whether there is a bundle to measure. */
export function ourForm(): Form['from'] {
  return existsSync(join(ROOT, 'dist/nrdot.js')) ? 'bundle' : 'source';
}

/**
 * All systems that are compared here.
 * @param peers those of others: all, none, or those of the headline, which take OTLP and send it on
 * @param say told why one is left out
 * @param nodeFlags to try, on NRDOT+ alone
 */
export async function systems(
  peers: 'all' | 'headline' | 'none',
  say: (line: string) => void,
  nodeFlags: readonly string[] = [],
): Promise<System[]> {
  const form: Form = { from: ourForm(), nodeFlags };
  const ours = [onePipeline(form), services(form)];
  if (peers === 'none') return ours;
  const [collector, rotel] = [await build.collector(say), await build.rotel(say)];
  const agent = peers === 'all' ? await build.vmagent(say) : undefined;
  return [
    ...ours,
    ...(rotel ? rotels(rotel) : []),
    ...(collector ? collectors(collector) : []),
    ...(agent ? [vmagent(agent)] : []),
  ];
}
