/** Starts the product as its users do, for tests. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type MockUpstream, type Process, startNrdot, type TestRedis, waitUntil } from '@nrdot/testbed';

export interface Running {
  /** Where to send OTLP. */
  otlp: string;
  /** Admin address of the scheduler. */
  admin: string;
  /** Of each receiver, where to send and its admin address. */
  receivers: { otlp: string; admin: string }[];
  processes: Record<string, Process>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Accounting {
  accepted: number;
  delivered: number;
  queued: number;
  on_disk: number;
  rejected: number;
  dropped: number;
  difference: number;
}

/** Writes nrdot.yaml into a directory; JSON is YAML. Ports are free ones, times short. */
export function writeConfig(dir: string, config: Record<string, unknown> = {}): string {
  const file = join(dir, 'nrdot.yaml');
  const base = {
    data_dir: join(dir, 'data'),
    receiver: { listen: '127.0.0.1:0' },
    admin: { listen: '127.0.0.1:0', shutdown_timeout: '5s' },
    dlq: { listen: '127.0.0.1:0' },
    exporter: { retry: { initial: '50ms', max: '200ms' }, timeout: '5s' },
    breaker: { open_min: '100ms', open_max: '500ms' },
  };
  writeFileSync(file, JSON.stringify(merge(base, config)));
  return file;
}

function merge(a: Record<string, unknown>, b: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const both = [merged[key], value].every((v) => typeof v === 'object' && v !== null && !Array.isArray(v));
    merged[key] = both
      ? merge(merged[key] as Record<string, unknown>, value as Record<string, unknown>)
      : value;
  }
  return merged;
}

/** The pipeline in one process, with its private Redis. */
export async function startOne(
  dir: string,
  mock: Pick<MockUpstream, 'url'>,
  config: Record<string, unknown> = {},
  env: Record<string, string> = {},
): Promise<Running> {
  const file = writeConfig(dir, config);
  const up = startNrdot(['up', '--config', file, '--upstream', mock.url], env, dir);
  const [, otlp = ''] = await up.line(/send OTLP\/HTTP to\s+(\S+)/);
  const [, admin = ''] = await up.line(/metrics and health\s+(\S+)\/metrics/);
  return {
    otlp,
    admin,
    receivers: [{ otlp, admin }],
    processes: { up },
    [Symbol.asyncDispose]: () => endOne(up),
  };
}

/** In order, so that its redis-server ends with it; a killed one leaves that to the next start. */
async function endOne(up: Process): Promise<void> {
  if (up.running) await up.end('SIGTERM').catch(() => {}); // killed after a while; what matters was asserted before
}

/** Four services as processes of their own, with as many exporters as wanted. */
export async function startServices(
  dir: string,
  redis: TestRedis,
  mock: MockUpstream,
  config: Record<string, unknown> = {},
  { exporters = 2, schedulers = 1, receivers = 1 } = {},
): Promise<Running> {
  const file = writeConfig(dir, { redis: { url: redis.url }, ...config });
  const start = (service: string, ...args: string[]) =>
    startNrdot([service, '--config', file, ...args], {}, dir);
  const processes: Record<string, Process> = { dlq: start('dlq') };
  const receiverNames = Array.from({ length: receivers }, (_, i) =>
    i === 0 ? 'receiver' : `receiver${i + 1}`,
  );
  for (const name of receiverNames) processes[name] = start('receiver');
  for (let i = 1; i <= schedulers; i++) processes[`scheduler${i}`] = start('scheduler');
  for (let i = 1; i <= exporters; i++) processes[`exporter${i}`] = start('exporter', '--upstream', mock.url);
  const admins = await Promise.all(
    Object.entries(processes).map(async ([name, process]) => {
      const [, address = ''] = await process.line(/"admin":"([^"]+)","msg":"started"/);
      return [name, `http://${address}`] as const;
    }),
  );
  const adminOf = Object.fromEntries(admins);
  const listening = await Promise.all(
    receiverNames.map(async (name) => {
      const [, address = ''] = await processes[name]!.line(/"address":"([^"]+)","msg":"receiving/);
      return { otlp: `http://${address}`, admin: adminOf[name]! };
    }),
  );
  for (const [name, admin] of admins) {
    await waitUntil(async () => (await fetch(`${admin}/readyz`)).ok, { what: `${name} is ready` });
  }
  return {
    otlp: listening[0]?.otlp ?? '',
    admin: adminOf.scheduler1!,
    receivers: listening,
    processes,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(Object.values(processes).map((process) => process[Symbol.asyncDispose]()));
    },
  };
}

export async function accounting(admin: string): Promise<Accounting> {
  const state = (await (await fetch(`${admin}/api/scheduler`)).json()) as { accounting: Accounting };
  return state.accounting;
}

/** Waits until everything accepted has been delivered or is accounted for, and the books balance. */
export async function untilQuiet(admin: string, timeoutMs = 30_000): Promise<Accounting> {
  return waitUntil(
    async () => {
      const books = await accounting(admin);
      return books.queued === 0 && books.on_disk === 0 && books.difference === 0 ? books : undefined;
    },
    { what: 'nothing is queued or on disk and the books balance', timeoutMs, everyMs: 100 },
  ).catch(async (error: Error) => {
    const state = await fetch(`${admin}/api/scheduler`).then((response) => response.text(), String);
    throw new Error(`${error.message}: ${state}`);
  });
}

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Everything on the metrics page of an admin address. */
export async function scrape(admin: string): Promise<Sample[]> {
  const text = await (await fetch(`${admin}/metrics`)).text();
  return [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name = '', labels = '', value]) => ({
    name,
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, k, v]) => [k, v])),
    value: Number(value),
  }));
}
