/** docker-compose.yml as a user brings it up, under a project name and on ports of its own. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { complaint, type GenerateReport, generate, judge, SequenceSet, waitUntil } from '@nrdot/testbed';
import type { Accounting } from '../kit.ts';
import { COMPOSE, docker, hasImage, IMAGE, ROOT, run } from './engine.ts';

const FIRST_PORT = 20_000;
const LAST_PORT = 29_000;

export interface Container {
  Id: string;
  Name: string;
  RestartCount: number;
  State: {
    Running: boolean;
    Pid: number;
    OOMKilled: boolean;
    StartedAt: string;
    Health?: { Status: string };
  };
  Config: { User: string; Labels: Record<string, string> };
  HostConfig: {
    Memory: number;
    ReadonlyRootfs: boolean;
    CapDrop: string[] | null;
    RestartPolicy: { Name: string };
    PidsLimit: number | null;
  };
  NetworkSettings: {
    Ports: Record<string, { HostIp: string; HostPort: string }[] | null>;
    Networks: Record<string, { GlobalIPv6Address: string }>;
  };
}

const LOAD = {
  rate: 1_000,
  batchSize: 50,
  signals: { traces: 2, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
  retryInitialMs: 50,
  connections: 4,
} as const;

/** A load in the background. */
export interface Load {
  run: number;
  /** Waits until some more has been acknowledged. */
  more(items: number): Promise<void>;
  end(): Promise<GenerateReport>;
}

/** Of which sources and image a stack is. */
interface Origin {
  tree: string;
  image: string;
  /** A second compose file, whose lines count. */
  override?: string;
}

export class Stack {
  readonly project: string;
  readonly #origin: Origin;
  /** Two in a row of each, for two receivers and two schedulers. */
  readonly otlpPort: number;
  readonly adminPort: number;
  readonly prometheusPort: number;

  private constructor(project: string, port: number, origin: Origin) {
    this.project = project;
    this.#origin = origin;
    this.otlpPort = port;
    this.adminPort = port + 2;
    this.prometheusPort = port + 4;
  }

  /** Finds free ports; starts nothing. */
  static async plan(origin: Partial<Origin> = {}): Promise<Stack> {
    const project = `nrdot-test-${randomBytes(3).toString('hex')}`;
    return new Stack(project, await freePorts(5), { tree: ROOT, image: IMAGE, ...origin });
  }

  /** The same stack after a `git pull`: its names, ports and volumes stay. */
  upgraded(): Stack {
    return new Stack(this.project, this.otlpPort, { tree: ROOT, image: IMAGE });
  }

  /** What differs from a user's `docker compose up`: the name, the ports, and services whose images are not here. */
  get env(): Record<string, string> {
    return {
      COMPOSE_PROJECT_NAME: this.project,
      ...(this.#origin.override ? { COMPOSE_FILE: `docker-compose.yml:${this.#origin.override}` } : {}),
      COMPOSE_PROFILES: hasImage('prom/prometheus') ? 'mock,prometheus' : 'mock',
      NRDOT_IMAGE: this.#origin.image,
      NRDOT_OTLP_PORTS: `${this.otlpPort}-${this.otlpPort + 1}`,
      NRDOT_ADMIN_PORTS: `${this.adminPort}-${this.adminPort + 1}`,
      NRDOT_PROMETHEUS_PORT: String(this.prometheusPort),
    };
  }

  compose(...args: string[]): Promise<string> {
    return this.composeWith({}, ...args);
  }

  composeWith(env: Record<string, string>, ...args: string[]): Promise<string> {
    return run([...(COMPOSE ?? []), ...args], { env: { ...this.env, ...env }, cwd: this.#origin.tree });
  }

  /** Brings it up, or to another scale, and waits until every service is healthy. */
  async up(scale: Record<string, number> = {}): Promise<void> {
    const scales = Object.entries(scale).flatMap(([service, n]) => ['--scale', `${service}=${n}`]);
    await this.compose('up', '-d', '--no-build', ...scales);
    await this.healthy();
  }

  async containers(service?: string): Promise<Container[]> {
    const filter = [`label=com.docker.compose.project=${this.project}`];
    if (service) filter.push(`label=com.docker.compose.service=${service}`);
    const ids = await docker('ps', '-aq', ...filter.flatMap((f) => ['--filter', f]));
    const list = ids.split('\n').filter(Boolean);
    const all = list.length === 0 ? [] : (JSON.parse(await docker('inspect', ...list)) as Container[]);
    // The one that makes the token has ended by then.
    return all.filter(({ Config }) => Config.Labels['com.docker.compose.service'] !== 'token');
  }

  async healthy(): Promise<void> {
    await waitUntil(
      async () => {
        const all = await this.containers();
        const not = all.filter(
          ({ State }) => !State.Running || (State.Health && State.Health.Status !== 'healthy'),
        );
        if (not.length > 0) throw new Error(not.map((c) => `${c.Name} ${JSON.stringify(c.State)}`).join());
        return all.length > 0;
      },
      { what: 'all containers are healthy', timeoutMs: 90_000, everyMs: 300 },
    );
  }

  /** The admin token that the first `up` made. */
  async token(): Promise<string> {
    const [scheduler] = await this.containers('scheduler');
    return docker('exec', scheduler!.Id, 'cat', '/run/nrdot/token');
  }

  /** Asks over HTTP from within a container. */
  async ask(container: string, port: number, path: string, method = 'GET'): Promise<string> {
    return docker('exec', container, 'ask', method, String(port), path);
  }

  async #mock(): Promise<string> {
    const [mock] = await this.containers('mock-upstream');
    return mock!.Id;
  }

  async mockStats(): Promise<{ items: number; foreign: number; corrupted: number; duplicates: number }> {
    return JSON.parse(await this.ask(await this.#mock(), 4320, '/_mock/stats'));
  }

  /** What of a generator's run has arrived since the mock upstream was started. */
  async received(run: number): Promise<SequenceSet> {
    const text = await this.ask(await this.#mock(), 4320, `/_mock/received?run=${run}`);
    const { ranges } = JSON.parse(text) as { ranges: number[] };
    return SequenceSet.fromFlat(ranges);
  }

  /**
   * Cuts the upstream off and keeps what it has got: it forgets that when its container ends.
   * @returns for each run, what has arrived
   */
  async cutUpstream(...runs: number[]): Promise<Map<number, SequenceSet>> {
    await this.ask(await this.#mock(), 4320, '/_mock/outage/on', 'POST');
    const kept = new Map<number, SequenceSet>();
    for (const run of runs) kept.set(run, await this.received(run));
    return kept;
  }

  /** @param n which of the receivers */
  endpoint(n = 0): string {
    return `http://127.0.0.1:${this.otlpPort + n}`;
  }

  loading(n = 0): Load {
    const enough = new AbortController();
    const run = Math.floor(Math.random() * 2 ** 32);
    let acknowledged = 0;
    const report = generate(
      { ...LOAD, run, endpoint: this.endpoint(n), durationMs: 240_000 },
      {
        signal: enough.signal,
        progress: (now) => {
          acknowledged = now.acknowledgedItems;
        },
      },
    );
    return {
      run,
      more: async (items) => {
        const before = acknowledged;
        await waitUntil(() => acknowledged >= before + items, {
          what: `${items} more items are acknowledged`,
        });
      },
      end: async () => {
        enough.abort();
        return report;
      },
    };
  }

  /** Sends so many items and waits for their answers. */
  send(items: number): Promise<GenerateReport> {
    return generate({ ...LOAD, endpoint: this.endpoint(), items });
  }

  /**
   * Waits until the pipeline is quiet.
   * @param kept what arrived before the mock forgot
   * @returns what is wrong: something acknowledged is missing, or was dropped or rejected; empty when nothing is
   */
  async missing(report: GenerateReport, ...kept: (SequenceSet | undefined)[]): Promise<string> {
    const books = await this.quiet();
    if (report.acknowledgedItems === 0) return 'nothing was acknowledged';
    // After Redis was away its accounting balances without what went to the dlq meanwhile, until the dlq is connected again.
    let wrong = '';
    const complete = async () => {
      const arrived = await this.received(report.run);
      for (const before of kept) if (before) arrived.addAll(before);
      wrong = complaint(judge(report, arrived));
      return wrong === '';
    };
    await waitUntil(complete, { what: 'all items have arrived', timeoutMs: 15_000, everyMs: 250 }).catch(
      () => {},
    );
    return wrong || (books.dropped + books.rejected > 0 ? JSON.stringify(books) : '');
  }

  async books(): Promise<Accounting> {
    const [scheduler] = (await this.containers('scheduler')).filter(({ State }) => State.Running);
    const state = await this.ask(scheduler!.Id, 8888, '/api/scheduler');
    return (JSON.parse(state) as { accounting: Accounting }).accounting;
  }

  /** Waits until nothing is in flight any more and the books balance. */
  quiet(): Promise<Accounting> {
    let last: Accounting | undefined;
    return waitUntil(
      async () => {
        last = await this.books();
        return last.queued === 0 && last.on_disk === 0 && last.difference === 0 ? last : undefined;
      },
      { what: 'nothing is queued or on disk and the books balance', timeoutMs: 90_000, everyMs: 250 },
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(last)}`);
    });
  }

  /** Ends the container's first process with SIGKILL as a crash would, and waits until the engine has it up again. */
  async crash({ Id, Name, State }: Container): Promise<void> {
    await docker(
      ...['run', '--rm', '--pid', 'host', '--user', '0', '--entrypoint', 'bash', IMAGE],
      ...['-c', `kill -9 ${State.Pid}`],
    );
    await waitUntil(
      async () => {
        const [now] = JSON.parse(await docker('inspect', Id)) as Container[];
        return now!.State.Running && now!.State.Pid !== State.Pid;
      },
      { what: `${Name} is up again`, timeoutMs: 60_000, everyMs: 200 },
    );
  }

  /** Resident memory of a container's first process in MiB: now, and at most so far. */
  async memory({ Id }: Container): Promise<{ now: number; most: number }> {
    const status = await docker('exec', Id, 'cat', '/proc/1/status');
    const mebibytes = (field: string) =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
    return { now: mebibytes('VmRSS'), most: mebibytes('VmHWM') };
  }

  async logs(): Promise<string> {
    return this.compose('logs', '--no-color', '--tail', '15').catch((error: Error) => error.message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.compose('down', '-v', '--remove-orphans', '--timeout', '3');
  }
}

/** The first of so many ports in a row that are free on loopback. */
async function freePorts(count: number): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const first = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)));
    if (free.every(Boolean)) return first;
  }
  throw new Error(`no ${count} free ports in a row were found from ${FIRST_PORT} to ${LAST_PORT}`);
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
