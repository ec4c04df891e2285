/** Every fault there is: where it can strike, how it is done and how it ends. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { BatchMaker, type Behaviour, HEALTHY, TEST_SIGNALS, waitUntil, workload } from '@nrdot/testbed';
import type { Orders } from './orders.ts';
import { LINK_FAULTS, type LinkFault } from './proxy.ts';
import { FORMS, type Form, LINKS, PROCESSES, type Stack } from './stack.ts';
import type { ClusterRedis, SentinelRedis } from './topology.ts';

/** What a fault may look at and tell while it lasts. */
export interface Scene {
  stack: Stack;
  random(): number;
  /** A second producer with the same ids; resolves when it has sent all it has. */
  twin(): Promise<void>;
  /** Items of this generator's run were never sent whole: none of them may arrive. */
  neverSent(run: number): void;
  /** Resolves when the clients have sent all they had. */
  sent(): Promise<void>;
  /** From here on a loss is expected, and must be equal to what the product says it lost. */
  damaged(): void;
}

/** Ends the fault. */
export type Mend = () => Promise<void>;

export interface Kind {
  name: string;
  forms: readonly Form[];
  /** What it is done to. Faults of a pair never share a target. */
  targets(form: Form): readonly string[];
  /** How long it lasts, in ms. */
  lastsMs: readonly [from: number, to: number];
  /** It can hide from a sender what became of a request, which is then sent again. */
  repeats: boolean;
  /** How often it is drawn, against the others; 1 unless given. */
  weight?: number;
  /** Says nothing of the data: none of it may be rejected. */
  keeps?: true;
  /** Never one of a pair. */
  alone?: true;
  needs?(stack: Stack): boolean;
  strike(scene: Scene, target: string, lastsMs: number): Promise<Mend>;
}

/** Forms whose Redis is one server of its own. */
const BOTH: readonly Form[] = ['services', 'one'];
const REDIS_FREE_BYTES = 256 * 1024;
const KILL_EVERY_MS = 60;
const HALVES_AT_ONCE = 8;
const CLOCK_STEP_MS = 3_600_000;
/** Longer than an exporter waits (`SETTINGS`). */
const HANG_MS = 6_000;
/** Bytes per second. */
const SLOW_LINK = 128 * 1024;
/** Share of writes and fsyncs that fail. */
export const EIO_RATE = 0.4;
/** A damaged segment needs something on the disk first. */
const SPILL_WAIT_MS = 120_000;
/** Of a tenth of a second, a process that is starved of CPU runs so long. */
const RUNS_MS = 10;
const SLICE_MS = 100;
const SLOW_FSYNC_MS = 1_000;
/** So many more files than it has open a process may open. */
const DESCRIPTORS_LEFT = 2;
/** How often the dlq looks at the books. */
const LOOK_MS = 2_000;

type Told = Partial<Behaviour> | ((scene: Scene) => Partial<Behaviour>);

function upstream(name: string, told: Told, repeats: boolean): Kind {
  return {
    name: `upstream: ${name}`,
    forms: FORMS,
    targets: () => ['upstream'],
    lastsMs: [300, 1_500],
    repeats,
    strike: async (scene) => {
      const { mock } = scene.stack;
      mock.set(typeof told === 'function' ? told(scene) : told);
      return async () => mock.set({ ...HEALTHY });
    },
  };
}

/** Answers about the place, the key, the quota or the server: all is kept, and goes on by itself. */
function held(name: string, told: Told): Kind {
  return { ...upstream(name, told, false), weight: 0.5, keeps: true };
}

/** One signal that is drawn; the others go on. */
function oneSignal<T>({ random }: Scene, value: T): Record<string, T> {
  return { [TEST_SIGNALS[Math.floor(random() * TEST_SIGNALS.length)]!]: value };
}

/** Sends on to itself: in a circle, for who follows. */
function redirect(status: number): Kind {
  return held(`redirect (${status})`, ({ stack }) => ({
    redirectStatus: status,
    redirectTo: stack.mock.url,
  }));
}

/** One signal hangs for longer than exporters wait. What was sent it takes in the end, when nobody listens any more. */
function hangs(): Kind {
  const kind = held('one signal hangs', (scene) => ({ signalLatencyMs: oneSignal(scene, HANG_MS) }));
  return {
    ...kind,
    repeats: true,
    strike: async (scene, target, lastsMs) => {
      const mend = await kind.strike(scene, target, lastsMs);
      return async () => {
        await mend();
        await wait(HANG_MS);
      };
    },
  };
}

function link(fault: LinkFault): Kind {
  return {
    name: `connection: ${fault}`,
    forms: FORMS,
    targets: (form) => LINKS[form],
    lastsMs: [200, 1_500],
    repeats: true,
    weight: 1.5,
    strike: async ({ stack }, target) => {
      stack.link(target).spoil(fault);
      return async () => stack.link(target).mend();
    },
  };
}

/** The wall clock of one process, for a while; then it is right again, which is another step. */
function clock(direction: string, ms: number): Kind {
  return {
    name: `clock: ${direction} an hour and right again`,
    forms: FORMS,
    targets: withoutRedis,
    lastsMs: [300, 1_500],
    repeats: false,
    strike: async ({ stack }, target) => {
      stack.order(target, { clockMs: ms });
      return async () => stack.order(target, {});
    },
  };
}

/** A process begins with a wrong clock, as before the time is set from the network; later it is right. */
function startsWith(direction: string, ms: number): Kind {
  return {
    name: `clock: ${direction} an hour at the start, right later`,
    forms: FORMS,
    targets: withoutRedis,
    lastsMs: [500, 2_000],
    repeats: true,
    weight: 0.5,
    strike: async ({ stack }, target) => {
      await stack.kill(target);
      stack.order(target, { clockMs: ms });
      await stack.restart(target);
      return async () => stack.order(target, {});
    },
  };
}

/** A changed file, and then the first one again. */
function reload(what: string, exporter: Record<string, unknown>): Kind {
  return {
    name: `reload ${what}`,
    forms: FORMS,
    targets: withoutRedis,
    lastsMs: [0, 500],
    repeats: false,
    strike: async ({ stack }, target) => {
      await stack.configure(target, { exporter });
      return async () => stack.configure(target, {});
    },
  };
}

/** A fault that the disk of the dlq can have while the upstream is away, so that all of it goes there. */
function disk(name: string, orders: Orders): Kind {
  return {
    name: `dlq: ${name} in an outage`,
    forms: FORMS,
    targets: dlqOf,
    lastsMs: [500, 2_000],
    repeats: true,
    strike: async ({ stack }, target) => {
      stack.order(target, orders);
      stack.mock.set({ outage: true });
      return async () => {
        stack.order(target, {});
        stack.mock.set({ ...HEALTHY });
      };
    },
  };
}

function withoutRedis(form: Form): readonly string[] {
  return PROCESSES[form].filter((name) => name !== 'redis');
}

/** The process that has the disk. */
function dlqOf(form: Form): readonly string[] {
  return [form === 'one' ? 'up' : 'dlq'];
}

export const KINDS: readonly Kind[] = [
  {
    name: 'kill -9',
    forms: FORMS,
    targets: (form) => PROCESSES[form],
    lastsMs: [50, 1_000],
    repeats: true,
    weight: 5,
    strike: async ({ stack }, target) => {
      await stack.kill(target);
      return () => stack.restart(target);
    },
  },
  {
    name: 'freeze (SIGSTOP)',
    forms: FORMS,
    targets: (form) => PROCESSES[form],
    lastsMs: [200, 1_500],
    repeats: true,
    weight: 3,
    strike: async ({ stack }, target) => {
      const pid = await stack.signal(target, 'SIGSTOP');
      return async () => void thaw(pid);
    },
  },
  {
    // Longer than the lock on a job: another exporter takes it up.
    name: 'freeze beyond the lock',
    forms: ['services'],
    targets: () => ['exporter1', 'exporter2', 'scheduler1', 'scheduler2', 'dlq'],
    lastsMs: [11_000, 13_000],
    repeats: true,
    weight: 0.25,
    strike: async ({ stack }, target) => {
      const pid = await stack.signal(target, 'SIGSTOP');
      return async () => void thaw(pid);
    },
  },
  {
    name: 'restart (SIGTERM)',
    forms: FORMS,
    targets: withoutRedis,
    lastsMs: [50, 500],
    repeats: true,
    weight: 2,
    strike: async ({ stack }, target) => {
      await stack.process(target).end('SIGTERM');
      return () => stack.restart(target);
    },
  },
  {
    name: 'rolling restart of the receivers',
    forms: ['services', 'sentinel', 'cluster'],
    targets: () => ['receivers'],
    lastsMs: [0, 200],
    repeats: true,
    weight: 2,
    alone: true,
    strike: async ({ stack }) => {
      for (const name of stack.receivers) {
        await stack.process(name).end('SIGTERM');
        await stack.restart(name);
        await stack.ready();
      }
      return async () => {};
    },
  },
  {
    // As an upgrade does it: one after the other, each when the one before is ready.
    name: 'rolling restart of all services',
    forms: ['services', 'sentinel', 'cluster'],
    targets: () => ['services'],
    lastsMs: [0, 200],
    repeats: true,
    alone: true,
    strike: async ({ stack }) => {
      for (const name of withoutRedis(stack.form)) {
        await stack.process(name).end('SIGTERM');
        await stack.restart(name);
        await stack.ready();
      }
      return async () => {};
    },
  },
  reload('of a live option', { headers: { 'x-reloaded': 'yes' } }),
  reload('of a file that is not valid', { timeout: 'soon' }),
  {
    // Others get the CPU, as on a machine that is shared.
    name: 'CPU cut to a tenth',
    forms: FORMS,
    targets: (form) => PROCESSES[form],
    lastsMs: [500, 2_500],
    repeats: true,
    strike: async ({ stack }, target) => {
      const pid = await stack.pid(target);
      const over = new AbortController();
      const starving = (async () => {
        while (!over.signal.aborted) {
          if (!signalled(pid, 'SIGSTOP')) return;
          await wait(SLICE_MS - RUNS_MS);
          if (!signalled(pid, 'SIGCONT')) return;
          await wait(RUNS_MS);
        }
      })();
      return async () => {
        over.abort();
        await starving;
      };
    },
  },
  {
    name: 'no descriptors left',
    forms: FORMS,
    targets: withoutRedis,
    lastsMs: [300, 1_500],
    repeats: true,
    needs: () => process.platform === 'linux',
    strike: async ({ stack }, target) => {
      const pid = await stack.pid(target);
      const open = readdirSync(`/proc/${pid}/fd`).length;
      const before = limitFiles(pid, open + DESCRIPTORS_LEFT);
      return async () => {
        if (before !== undefined) limitFiles(pid, before);
      };
    },
  },
  {
    name: 'redis: AOF torn at its end',
    forms: ['services'],
    targets: () => ['redis'],
    lastsMs: [50, 800],
    repeats: true,
    strike: async ({ stack }) => {
      await stack.kill('redis');
      stack.tearAof();
      return () => stack.restart('redis');
    },
  },
  {
    name: 'redis: out of memory',
    forms: BOTH,
    targets: () => ['redis'],
    lastsMs: [300, 1_500],
    repeats: true,
    strike: async ({ stack }) => {
      const redis = stack.redis();
      const [, before = '0'] = (await redis.config('GET', 'maxmemory')) as string[];
      const used = Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
      await redis.config('SET', 'maxmemory', String(used + REDIS_FREE_BYTES));
      return async () => {
        // One that was ended meanwhile, with its owner, starts with what it was before.
        await redis.config('SET', 'maxmemory', before).catch(() => {});
        redis.disconnect();
      };
    },
  },
  {
    name: 'redis: CLIENT KILL',
    forms: FORMS,
    targets: () => ['redis'],
    lastsMs: [100, 1_000],
    repeats: true,
    strike: async ({ stack }) => {
      const redis = stack.redis();
      const over = new AbortController();
      const killing = (async () => {
        while (!over.signal.aborted) {
          await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes').catch(() => {});
          await wait(KILL_EVERY_MS);
        }
      })();
      return async () => {
        over.abort();
        await killing;
        redis.disconnect();
      };
    },
  },
  {
    name: 'redis: scripts flushed',
    forms: BOTH,
    targets: () => ['redis'],
    lastsMs: [50, 200],
    repeats: false,
    weight: 0.5,
    strike: async ({ stack }) => {
      const redis = stack.redis();
      await redis.script('FLUSH');
      redis.disconnect();
      return async () => {};
    },
  },
  {
    // Its volume, or somebody's FLUSHALL. What is nowhere then has to be what the product says.
    name: 'redis: loses all it holds',
    forms: BOTH,
    targets: () => ['redis'],
    lastsMs: [300, 1_000],
    repeats: true,
    alone: true,
    strike: async ({ stack, sent, damaged }) => {
      const redis = stack.redis();
      // Nothing goes out: so Redis has something to lose. It loses that, too.
      await redis.hset('{nrdot}:export:meta', 'paused', 1);
      return async () => {
        try {
          await sent();
          const looked = async () => Number(await redis.hget('{nrdot}:disk', 'at'));
          let since = 0;
          const seen = async () => {
            const onTheWay = await Promise.all(
              ['export:active', 'spill:wait', 'spill:active'].map((list) => redis.llen(`{nrdot}:${list}`)),
            );
            const { difference } = await stack.books();
            if (difference !== 0 || onTheWay.some((jobs) => jobs > 0)) since = 0;
            else if (since === 0) since = await looked();
            // Two looks after it had come to rest: the dlq has seen all that is there.
            return since > 0 && (await looked()) >= since + 2 * LOOK_MS;
          };
          await waitUntil(seen, {
            what: 'the dlq has read the state of Redis',
            timeoutMs: SPILL_WAIT_MS,
            everyMs: 100,
          });
          damaged();
          await redis.flushall();
          const noticed = async () => (await redis.exists('{nrdot}:losses')) === 1;
          await waitUntil(noticed, { what: 'the loss is noticed', timeoutMs: SPILL_WAIT_MS });
        } finally {
          redis.disconnect();
        }
      };
    },
  },
  {
    name: 'redis: failover, primary killed',
    forms: ['sentinel'],
    targets: () => ['redis'],
    lastsMs: [50, 800],
    repeats: true,
    weight: 12,
    strike: ({ stack }) => (stack.topology as SentinelRedis).failOver('SIGKILL'),
  },
  {
    name: 'redis: failover, primary frozen',
    forms: ['sentinel'],
    targets: () => ['redis'],
    lastsMs: [50, 800],
    repeats: true,
    weight: 8,
    strike: ({ stack }) => (stack.topology as SentinelRedis).failOver('SIGSTOP'),
  },
  {
    name: 'redis: slot moved',
    forms: ['cluster'],
    targets: () => ['redis'],
    lastsMs: [0, 100],
    repeats: true,
    weight: 20,
    strike: async ({ stack }) => {
      await (stack.topology as ClusterRedis).moveSlot();
      return async () => {};
    },
  },
  clock('forward', CLOCK_STEP_MS),
  clock('back', -CLOCK_STEP_MS),
  startsWith('forward', CLOCK_STEP_MS),
  startsWith('back', -CLOCK_STEP_MS),
  ...LINK_FAULTS.map(link),
  upstream('outage', { outage: true }, true),
  upstream('429 with Retry-After', { throttleRate: 1, retryAfterSeconds: 1 }, false),
  upstream('429 now and then', { throttleRate: 0.4 }, false),
  upstream('502', { errorRate: 0.7, errorStatus: 502 }, false),
  upstream('503', { errorRate: 0.7, errorStatus: 503 }, false),
  upstream('504', { errorRate: 1, errorStatus: 504 }, false),
  held('401', { status: 401 }),
  held('404', { status: 404 }),
  held('200 with a page for people', { html: true }),
  redirect(301),
  redirect(308),
  held('403 for one signal', (scene) => ({ signalStatus: oneSignal(scene, 403) })),
  held('429 for one signal', (scene) => ({ signalStatus: oneSignal(scene, 429), retryAfterSeconds: 1 })),
  hangs(),
  held('500 now and then', { errorRate: 0.3, errorStatus: 500 }),
  held('500, all', { errorRate: 1, errorStatus: 500 }),
  held('415 for zstd', { refuseEncoding: 'zstd' }),
  held('415 for gzip', { refuseEncoding: 'gzip' }),
  held('reads the first gzip member only', { firstMemberOnly: true }),
  { ...held('slow link', { bytesPerSecond: SLOW_LINK }), repeats: true },
  upstream('refuses for good (400)', { refuseRate: 0.3 }, false),
  upstream('413', { maxBodyBytes: 24_000 }, false),
  upstream('cut before the answer', { cutRate: 0.6 }, true),
  upstream('200 with garbage', { garbageRate: 0.6 }, true),
  upstream('partial success', { partialRate: 0.5 }, false),
  upstream('slow', { latencyMs: 400, jitterMs: 1_200 }, false),
  {
    name: 'dlq: disk full in an outage',
    forms: FORMS,
    targets: () => ['upstream'],
    lastsMs: [500, 2_000],
    repeats: true,
    weight: 2,
    needs: (stack) => stack.smallDisk,
    strike: async ({ stack }) => {
      const ballast = join(stack.dlqDir, 'ballast');
      fill(ballast);
      stack.mock.set({ outage: true });
      return async () => {
        rmSync(ballast, { force: true });
        stack.mock.set({ ...HEALTHY });
      };
    },
  },
  { ...disk('EIO', { eioRate: EIO_RATE }), weight: 2 },
  disk('EIO on open, rename, unlink and read', { eioElsewhereRate: EIO_RATE }),
  disk('fsync takes a second', { fsyncMs: SLOW_FSYNC_MS }),
  {
    // From the start of its process: it finds the disk so. It may end over it, and is started again.
    name: 'dlq: disk read-only in an outage',
    forms: FORMS,
    targets: dlqOf,
    lastsMs: [500, 2_000],
    repeats: true,
    needs: (stack) => stack.smallDisk,
    // Another fault of the disk has files of its own to write there.
    alone: true,
    strike: async ({ stack }, target) => {
      await stack.kill(target);
      stack.remountDisk('ro');
      stack.mock.set({ outage: true });
      await stack.restart(target);
      return async () => {
        stack.remountDisk('rw');
        // It may have seen the disk as it was, and be about to end over it.
        await stack.kill(target);
        await stack.restart(target);
        stack.mock.set({ ...HEALTHY });
      };
    },
  },
  {
    name: 'dlq: bits flipped in a segment',
    forms: FORMS,
    targets: () => ['upstream'],
    lastsMs: [300, 1_000],
    repeats: true,
    weight: 2,
    alone: true,
    strike: async ({ stack, random, sent, damaged }) => {
      stack.mock.set({ outage: true });
      return async () => {
        // What is in Redis too, being spilled or replayed, would be counted as lost and come all the same.
        await sent();
        const paused = async () =>
          (await fetch(`${stack.admin('dlq')}/api/dlq/pause`, { method: 'POST' })).ok;
        await waitUntil(paused, { what: 'replay is paused', timeoutMs: SPILL_WAIT_MS });
        const spilled = async () => {
          const { on_disk, queued, difference } = await stack.books();
          // What the dlq last said of its disk may be a while ago: with a difference there is more than it said.
          const all = on_disk > 0 && queued === 0 && difference === 0;
          const settled = all && checkpointed(stack.dlqDir) === on_disk;
          return settled && (await replaying(stack)) === 0;
        };
        await waitUntil(spilled, { what: 'all items are on disk', timeoutMs: SPILL_WAIT_MS });
        const owner = stack.form === 'one' ? 'up' : 'dlq';
        await stack.kill(owner);
        damaged();
        flip(stack.dlqDir, random);
        await stack.restart(owner);
        stack.mock.set({ ...HEALTHY });
        const resumed = async () =>
          (await fetch(`${stack.admin('dlq')}/api/dlq/resume`, { method: 'POST' })).ok;
        await waitUntil(resumed, { what: 'replay goes on', timeoutMs: SPILL_WAIT_MS });
      };
    },
  },
  {
    name: 'client: gone in mid-body',
    forms: FORMS,
    targets: () => ['client'],
    lastsMs: [200, 1_000],
    repeats: false,
    strike: async ({ stack, random, neverSent }) => {
      const run = Math.floor(random() * 2 ** 32);
      neverSent(run);
      const w = workload({ endpoint: stack.otlp, encoding: 'identity', seed: run });
      const maker = new BatchMaker(w, run);
      const over = new AbortController();
      const sending = (async () => {
        while (!over.signal.aborted) {
          const share = 0.05 + random() * 0.9;
          await Promise.all(
            Array.from({ length: HALVES_AT_ONCE }, () =>
              sendPart(stack.otlp, maker.headers, maker.make(50, Date.now()).body, share),
            ),
          );
          await wait(20);
        }
      })();
      return async () => {
        over.abort();
        await sending;
      };
    },
  },
  {
    name: 'client: two with the same ids',
    forms: FORMS,
    targets: () => ['client'],
    lastsMs: [200, 500],
    repeats: true,
    strike: async ({ twin }) => {
      const done = twin();
      done.catch(() => {}); // awaited by the mend
      return () => done;
    },
  },
];

export function kindOf(name: string): Kind {
  const kind = KINDS.find((each) => each.name === name);
  if (!kind) throw new Error(`there is no fault "${name}"`);
  return kind;
}

function thaw(pid: number): void {
  signalled(pid, 'SIGCONT');
}

/** @returns whether there is such a process: the other fault of the pair may have killed it */
function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

/**
 * Sets how many files a process may have open.
 * @returns what it was; undefined when the process is gone
 */
function limitFiles(pid: number, most: number): number | undefined {
  const of = [`--pid=${pid}`];
  const prlimit = (...args: string[]) =>
    execFileSync('prlimit', [...of, ...args], { stdio: 'pipe' }).toString();
  try {
    const before = prlimit('--nofile', '--output=SOFT', '--noheadings');
    prlimit(`--nofile=${most}:`);
    return Number(before);
  } catch {
    return undefined;
  }
}

/** Writes until the disk is full. */
function fill(path: string): void {
  const file = openSync(path, 'w');
  const piece = Buffer.alloc(256 * 1024, 1);
  try {
    for (let size = piece.byteLength; size >= 4096; size /= 2) {
      try {
        while (true) writeSync(file, piece, 0, size);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  } finally {
    closeSync(file);
  }
}

/** Changes a few bits of one segment. Its process must be down. */
function flip(dir: string, random: () => number): void {
  const segments = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\d{16}\.(seg|open)$/.test(name) && !name.includes('quarantine'))
    .map((name) => join(dir, name))
    .filter((path) => statSync(path).size > 0)
    .sort();
  const path = segments[Math.floor(random() * segments.length)];
  if (!path) return;
  const bytes = readFileSync(path);
  for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
    const at = Math.floor(random() * bytes.byteLength);
    bytes[at]! ^= 1 << Math.floor(random() * 8);
  }
  writeFileSync(path, bytes);
}

/** Items that the dlq's checkpoints know of and that are not acknowledged. */
function checkpointed(dir: string): number {
  return ['critical', 'high', 'normal']
    .map((area) => join(dir, area, 'checkpoint'))
    .filter((path) => existsSync(path))
    .map((path) => JSON.parse(readFileSync(path, 'utf8').slice(9)) as Checkpoint)
    .flatMap(({ segments }) => segments.map(({ items, ackedItems }) => items - ackedItems))
    .reduce((sum, items) => sum + items, 0);
}

/** Batches from the disk that Redis holds. */
async function replaying(stack: Stack): Promise<number> {
  const state = await (await fetch(`${stack.admin('dlq')}/api/dlq`)).json();
  return (state as { replay: { outstanding: number } }).replay.outstanding;
}

interface Checkpoint {
  segments: { items: number; ackedItems: number }[];
}

/** Sends the beginning of a request and hangs up. */
function sendPart(url: string, headers: Record<string, string>, body: Buffer, share: number): Promise<void> {
  const { hostname, port } = new URL(url);
  const head = Object.entries({ ...headers, host: hostname, 'content-length': body.byteLength });
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    socket.on('close', () => resolve()).on('error', () => {});
    socket.on('connect', () => {
      socket.write(`POST /v1/traces HTTP/1.1\r\n${head.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`);
      socket.write(body.subarray(0, Math.floor(body.byteLength * share)), () => socket.destroy());
    });
  });
}
