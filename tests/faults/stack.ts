/** A pipeline that faults are done to: every connection goes through a proxy, every process can be killed and started. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Balancer,
  ENDLESS_LABEL,
  freePort,
  MetricClient,
  MetricLedger,
  type MockUpstream,
  type Process,
  startMockUpstream,
  startNrdot,
  TestRedis,
  waitUntil,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { type Accounting, accounting, scrape, writeConfig } from '../kit.ts';
import type { Orders } from './orders.ts';
import { FaultProxy } from './proxy.ts';
import { ClusterRedis, SentinelRedis, type Topology } from './topology.ts';

/** `sentinel` and `cluster` are the services on such a Redis, without proxies before it. */
export const FORMS = ['services', 'one', 'sentinel', 'cluster'] as const;
export type Form = (typeof FORMS)[number];

const SERVICES = [
  'receiver1',
  'receiver2',
  'exporter1',
  'exporter2',
  'scheduler1',
  'scheduler2',
  'dlq',
] as const;

/**
 * Processes by form. `redis` is the test's own, or the private child of `nrdot up`; of a Cluster it is the node that
 * has the pipeline's slot. Under Sentinel its end is a fault of its own.
 */
export const PROCESSES: Record<Form, readonly string[]> = {
  services: [...SERVICES, 'redis'],
  one: ['up', 'redis'],
  sentinel: SERVICES,
  cluster: [...SERVICES, 'redis'],
};

/** Connections by form, named by who opens them and to whom. */
export const LINKS: Record<Form, readonly string[]> = {
  services: [
    ...['client-receiver1', 'client-receiver2', 'receiver1-redis', 'receiver2-redis', 'receivers-dlq'],
    ...['scheduler1-redis', 'scheduler2-redis', 'exporter1-redis', 'exporter2-redis', 'dlq-redis'],
    'exporters-upstream',
  ],
  one: ['client-receiver1', 'exporters-upstream'],
  sentinel: ['client-receiver1', 'client-receiver2', 'receivers-dlq', 'exporters-upstream'],
  cluster: ['client-receiver1', 'client-receiver2', 'receivers-dlq', 'exporters-upstream'],
};

/** Metrics with this before their names are judged by their totals. */
export const MERGED = 'merged.';

/** What the figures of a report hold for; beside these, defaults. */
export const SETTINGS = {
  receiver: { request_timeout: '10s' },
  redis: { command_timeout: '2s' },
  scheduler: { merge_bytes: '256KiB' },
  exporter: {
    timeout: '5s',
    concurrency: 8,
    retry: { initial: '50ms', max: '500ms', max_attempts: 5 },
  },
  breaker: { open_min: '100ms', open_max: '1s' },
  // The limiter acts as soon as a metric has some series: on those whose users never end.
  limiter: {
    max_keys: 4_096,
    act_above: 0,
    aggregate_labels: [ENDLESS_LABEL],
    overrides: [{ metric: `${MERGED}*`, critical_action: 'overflow' }],
  },
  dlq: { replay_rate: '256MiB', reserve: '1MiB' },
  admin: { shutdown_timeout: '5s' },
} as const;
/** So large is the dlq's disk, where a small one can be had. */
export const DISK_BYTES = 64 * 1024 * 1024;

const READY_MS = 180_000;
const ENVIRONMENT = {
  NODE_OPTIONS: `--import=${new URL('./saboteur.ts', import.meta.url).href}`,
  // Processes are started by the thousand; compiling is most of what a start costs.
  NODE_COMPILE_CACHE: join(tmpdir(), 'nrdot-faults-compile-cache'),
};
/** Of all keys; the default. */
const PREFIX = '{nrdot}';

export class Stack {
  readonly form: Form;
  readonly dir: string;
  readonly mock: MockUpstream;
  readonly links = new Map<string, FaultProxy>();
  /** Where clients send: a load balancer before the receivers, where there are several. */
  otlp = '';
  /** What came out of metrics that are merged, all runs together: their streams go on from run to run. */
  readonly merged: MetricLedger;
  /** What was on the disk has been damaged: totals may be less from then on. */
  mayLack = false;
  #metricClient: MetricClient | undefined;
  #balancer: Balancer | undefined;
  /** Whether the dlq's disk is a small one of its own, which can be filled. */
  smallDisk = false;
  readonly #processes = new Map<string, Process>();
  readonly #start = new Map<string, () => Process>();
  readonly #admin = new Map<string, string>();
  readonly #configs = new Map<string, { dir: string; config: Record<string, unknown> }>();
  #redis: TestRedis | undefined;
  #topology: Topology | undefined;

  private constructor(form: Form, dir: string, mock: MockUpstream, merged: MetricLedger) {
    this.form = form;
    this.dir = dir;
    this.mock = mock;
    this.merged = merged;
  }

  /** @param dir empty; everything is kept in it */
  static async start(form: Form, dir: string): Promise<Stack> {
    const merged = new MetricLedger(({ name }) => name.startsWith(MERGED));
    const taken = (signal: string, body: Buffer) => {
      if (signal === 'metrics' && body.includes(MERGED)) merged.take(body);
    };
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', taken });
    const stack = new Stack(form, dir, mock, merged);
    try {
      await (form === 'one' ? stack.#startOne() : stack.#startServices());
      await stack.ready();
    } catch (error) {
      await stack[Symbol.asyncDispose]();
      throw error;
    }
    return stack;
  }

  /** Sends metrics that are merged, and knows what must have come out, all runs together. */
  get metricClient(): MetricClient {
    this.#metricClient ??= new MetricClient({ receivers: [this.otlp], random: Math.random });
    return this.#metricClient;
  }

  get receivers(): string[] {
    return PROCESSES[this.form].filter((name) => name.startsWith('receiver'));
  }

  get dlqDir(): string {
    return join(this.dir, 'data', 'dlq');
  }

  process(name: string): Process {
    const process = this.#processes.get(name);
    if (!process) throw new Error(`there is no process ${name}`);
    return process;
  }

  link(name: string): FaultProxy {
    const link = this.links.get(name);
    if (!link) throw new Error(`there is no link ${name}`);
    return link;
  }

  /** Admin address of the process that answers for a service. */
  admin(service: string): string {
    return this.#admin.get(this.form === 'one' ? 'up' : service) ?? '';
  }

  get topology(): Topology {
    if (!this.#topology) throw new Error(`the form ${this.form} has one Redis`);
    return this.#topology;
  }

  /** The server with the pipeline's keys, where it is one of the test's own. */
  get #server(): TestRedis | undefined {
    return this.#topology?.primary ?? this.#redis;
  }

  /** A connection to Redis that goes past the proxies. */
  redis(): Redis {
    const common = { maxRetriesPerRequest: 2, connectTimeout: 5_000, lazyConnect: false };
    const redis = this.#server
      ? new Redis(this.#server.url, common)
      : new Redis({ ...common, path: join(this.dir, 'data', 'redis', 'redis.sock') });
    redis.on('error', () => {}); // commands say what is wrong
    return redis;
  }

  async pid(name: string): Promise<number> {
    if (name !== 'redis') return this.process(name).pid;
    if (this.#server) return this.#server.pid;
    const redis = this.redis();
    try {
      return Number(/process_id:(\d+)/.exec(await redis.info('server'))?.[1]);
    } finally {
      redis.disconnect();
    }
  }

  async signal(name: string, signal: NodeJS.Signals): Promise<number> {
    const pid = await this.pid(name);
    process.kill(pid, signal);
    return pid;
  }

  /** Tells a process what to do to itself from now on; what it was told before is over. */
  order(name: string, orders: Orders): void {
    // Whole or not at all: the process may look while it is written.
    const file = this.#ordersFile(name);
    writeFileSync(`${file}.new`, JSON.stringify(orders));
    renameSync(`${file}.new`, file);
  }

  #ordersFile(name: string): string {
    return join(this.dir, name, 'orders.json');
  }

  /** Writes a process's configuration anew, with these options over its own, and has it read again. */
  async configure(name: string, over: Record<string, Record<string, unknown>>): Promise<void> {
    const { dir, config } = this.#configs.get(name)!;
    const sections = Object.entries(over).map(([section, options]) => [
      section,
      { ...(config[section] as object), ...options },
    ]);
    writeConfig(dir, { ...config, ...Object.fromEntries(sections) });
    // One that has just been started would die of it, and reads the file anyway.
    const listens = () => !this.process(name).running || catches(this.process(name).pid, 'SIGHUP');
    await waitUntil(listens, { what: `${name} listens to SIGHUP`, timeoutMs: READY_MS });
    if (this.process(name).running) this.process(name).signal('SIGHUP');
  }

  /** The dlq's disk; only a small one of its own can be. No process may have a file open on it. */
  remountDisk(as: 'ro' | 'rw'): void {
    execFileSync('mount', ['-o', `remount,${as}`, this.dlqDir]);
  }

  async kill(name: string): Promise<void> {
    if (name === 'redis') await (this.#server ? this.#server.kill() : this.signal('redis', 'SIGKILL'));
    else await this.process(name).end('SIGKILL');
  }

  /** Starts a killed process again; the private Redis is started by its owner. */
  async restart(name: string): Promise<void> {
    if (name === 'redis') return this.#server?.start();
    if (this.#processes.get(name)?.running) return;
    this.#processes.set(name, this.#start.get(name)!());
  }

  /** A write that a crash cut off: the beginning of a command at the end of the AOF. Redis must be down. */
  tearAof(): void {
    const dir = join(this.dir, this.#redis ? 'redis' : 'data/redis', 'appendonlydir');
    const last = readdirSync(dir)
      .filter((name) => name.endsWith('.incr.aof'))
      .sort((a, b) => Number(/(\d+)\.incr/.exec(a)?.[1]) - Number(/(\d+)\.incr/.exec(b)?.[1]))
      .at(-1);
    if (last) appendFileSync(join(dir, last), '*3\r\n$3\r\nSET\r\n$9\r\n{nrdot}:t\r\n$4096\r\ntorn');
  }

  async books(): Promise<Accounting> {
    const names = this.form === 'one' ? ['up'] : ['scheduler1', 'scheduler2'];
    const all = await Promise.allSettled(names.map((name) => accounting(this.#admin.get(name)!)));
    const found = all.find((one) => one.status === 'fulfilled');
    if (!found) throw new Error('no scheduler answers');
    return found.value;
  }

  /** Requests that exporters gave up waiting for, as long as the ones lived that run now. */
  async upstreamTimeouts(): Promise<number> {
    const names = this.form === 'one' ? ['up'] : ['exporter1', 'exporter2'];
    const pages = await Promise.all(names.map((name) => scrape(this.#admin.get(name)!).catch(() => [])));
    return pages
      .flat()
      .filter(({ name, labels }) => name === 'exporter_retries_total' && labels.reason === 'timeout')
      .reduce((sum, { value }) => sum + value, 0);
  }

  /** Processes that ended without having been asked to. */
  crashed(): string[] {
    return [...this.#processes]
      .filter(([, process]) => !process.running)
      .map(([name, process]) => `${name}: ${process.output(12)}`);
  }

  async ready(): Promise<void> {
    for (const [name, admin] of this.#admin) {
      const ready = async () => {
        const process = this.#processes.get(name);
        if (process && !process.running) throw new Error(`${name} ended: ${process.output(12)}`);
        return (await fetch(`${admin}/readyz`)).ok;
      };
      await waitUntil(ready, { what: `${name} is ready`, timeoutMs: READY_MS });
    }
  }

  /** Writes what the processes printed into the directory, for whoever looks into a failure. */
  keepLogs(): void {
    for (const [name, process] of this.#processes)
      writeFileSync(join(this.dir, `${name}.log`), process.output(2_000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#processes.values()].map((process) => process[Symbol.asyncDispose]()));
    await this.#topology?.[Symbol.asyncDispose]();
    if (this.#redis) await this.#redis[Symbol.asyncDispose]();
    else if (this.form === 'one') await this.signal('redis', 'SIGKILL').catch(() => {});
    await this.#metricClient?.close();
    await this.#balancer?.[Symbol.asyncDispose]();
    await Promise.allSettled([...this.links.values()].map((link) => link[Symbol.asyncDispose]()));
    await this.mock.close();
    if (this.smallDisk) execFileSync('umount', ['-l', this.dlqDir]);
  }

  async #startServices(): Promise<void> {
    this.#mountDisk();
    const redisDir = join(this.dir, 'redis');
    mkdirSync(redisDir, { recursive: true });
    if (this.form === 'sentinel') this.#topology = await SentinelRedis.start(redisDir);
    else if (this.form === 'cluster') this.#topology = await ClusterRedis.start(redisDir, PREFIX);
    else this.#redis = await TestRedis.start({ dir: redisDir, port: await freePort() });
    const dlq = await freePort();
    await this.#proxy('receivers-dlq', dlq);
    await this.#proxy('exporters-upstream', Number(new URL(this.mock.url).port));
    for (const name of SERVICES) {
      const where = this.#topology?.config ?? { url: await this.#redisBehindProxy(name) };
      await this.#service(name, {
        redis: { ...SETTINGS.redis, ...where },
        receiver: { ...SETTINGS.receiver, listen: `127.0.0.1:${await this.#receiverPort(name)}` },
        dlq: { ...SETTINGS.dlq, listen: `127.0.0.1:${dlq}`, url: this.#url('receivers-dlq') },
      });
    }
    this.#balancer = await Balancer.to(this.receivers.map((name) => this.link(`client-${name}`).port));
    this.otlp = this.#balancer.url;
  }

  /** Where a receiver listens, behind a proxy; of other services 0, which nobody asks for. */
  async #receiverPort(name: string): Promise<number> {
    if (!this.receivers.includes(name)) return 0;
    const port = await freePort();
    await this.#proxy(`client-${name}`, port);
    return port;
  }

  async #redisBehindProxy(name: string): Promise<string> {
    const link = `${name}-redis`;
    await this.#proxy(link, this.#redis!.port);
    return `redis://127.0.0.1:${this.link(link).port}`;
  }

  async #startOne(): Promise<void> {
    this.#mountDisk();
    const receiver = await freePort();
    await this.#proxy('client-receiver1', receiver);
    await this.#proxy('exporters-upstream', Number(new URL(this.mock.url).port));
    this.otlp = this.#url('client-receiver1');
    await this.#service('up', { receiver: { ...SETTINGS.receiver, listen: `127.0.0.1:${receiver}` } });
  }

  async #service(name: string, config: Record<string, unknown>): Promise<void> {
    const admin = `127.0.0.1:${await freePort()}`;
    const dir = join(this.dir, name);
    mkdirSync(dir, { recursive: true });
    const whole = {
      ...SETTINGS,
      exporter: { ...SETTINGS.exporter, endpoint: this.#url('exporters-upstream') },
      ...config,
      data_dir: join(this.dir, 'data'),
      admin: { ...SETTINGS.admin, listen: admin },
    };
    const file = writeConfig(dir, whole);
    this.#configs.set(name, { dir, config: whole });
    this.#admin.set(name, `http://${admin}`);
    const env = { ...ENVIRONMENT, NRDOT_FAULT_ORDERS: this.#ordersFile(name) };
    this.#start.set(name, () => startNrdot([name.replace(/\d$/, ''), '--config', file], env, this.dir));
    await this.restart(name);
  }

  async #proxy(name: string, port: number): Promise<void> {
    this.links.set(name, await FaultProxy.to(port));
  }

  #url(link: string): string {
    return `http://127.0.0.1:${this.link(link).port}`;
  }

  #mountDisk(): void {
    mkdirSync(this.dlqDir, { recursive: true });
    if (process.getuid?.() !== 0) return;
    try {
      const args = ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', this.dlqDir];
      execFileSync('mount', args, { stdio: 'ignore' });
      this.smallDisk = true;
    } catch {
      // Not allowed here: the faults that need it are left out.
    }
  }
}

/** Whether a process has a handler for a signal; where that cannot be known, it is taken to have one. */
function catches(pid: number, signal: NodeJS.Signals): boolean {
  const status = `/proc/${pid}/status`;
  if (!existsSync(status)) return true;
  const [, caught = '0'] = /SigCgt:\s*([0-9a-f]+)/.exec(readFileSync(status, 'utf8')) ?? [];
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}
