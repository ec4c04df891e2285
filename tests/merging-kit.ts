/** What the tests of merging share: one pipeline with two receivers, producers, and a ledger that reads like a backend. */
import {
  ENDLESS_LABEL,
  judgeTotals,
  KEPT_LABEL,
  MetricClient,
  MetricLedger,
  MetricProducer,
  type MockUpstream,
  metricsRequest,
  type SeriesKind,
  type SeriesPoint,
  type SeriesValue,
  seededRandom,
  startMockUpstream,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { type Running, startServices, untilQuiet } from './kit.ts';
import { Receivers } from './receivers.ts';

/** The label is given up as soon as a metric has some series: it acts at once. There is room for the sources of all tests. */
export const LIMITER = { max_keys: 8_192, act_above: 0, aggregate_labels: [ENDLESS_LABEL] };
/** More than it takes until the label is given up: √max_keys series, and some more that are scored. */
export const MANY = 120;
const MS_NS = 1_000_000n;

/** One for all tests: starting it takes longer than they do. Each has metrics of its own, and a ledger. */
class Pipeline {
  readonly receivers: Receivers;
  readonly redis: TestRedis;
  received = new MetricLedger();
  client: MetricClient;
  tests = 0;
  /** Where the next request goes. */
  #target = 0;
  readonly #running: Running;
  #time = BigInt(Date.now()) * MS_NS;

  private constructor(running: Running, redis: TestRedis, receivers: Receivers) {
    this.#running = running;
    this.redis = redis;
    this.receivers = receivers;
    this.client = this.#newClient();
  }

  static async start(dir: string, limiter: Record<string, unknown> = LIMITER): Promise<Pipeline> {
    const redis = await TestRedis.start({ dir });
    const config = { redis: { url: redis.url }, limiter };
    const running = await startServices(dir, redis, mock, config, { exporters: 1, receivers: 0 });
    return new Pipeline(running, redis, await Receivers.start(dir, config, 2));
  }

  /** Forgets what was sent and what arrived. */
  async begin(): Promise<void> {
    await untilQuiet(this.#running.admin, 60_000);
    await this.client.close();
    this.tests += 1;
    this.client = this.#newClient();
    this.received = new MetricLedger();
  }

  /** Another moment than all before. */
  now(): bigint {
    const clock = BigInt(Date.now()) * MS_NS;
    this.#time = clock > this.#time ? clock : this.#time + MS_NS;
    return this.#time;
  }

  /** Sends a request, to the receiver it is told or the next in turn, until it is acknowledged. */
  async send(body: Buffer, to?: number): Promise<void> {
    this.#target = to ?? (this.#target + 1) % this.receivers.origins.length;
    await this.client.send(body);
  }

  /** The metrics of which a receiver has given a label up. */
  async mergedMetrics(at: number): Promise<string[]> {
    const answer = await fetch(`${this.receivers.admins[at]}/api/limiter`);
    const { decisions } = (await answer.json()) as { decisions: { metric: string }[] };
    return decisions.map(({ metric }) => metric);
  }

  /**
   * Holds what came out against what was sent, when all of it is out.
   * @param kept labels by which totals are compared: an overflow stream has none
   */
  async judge(kept: readonly string[] = [KEPT_LABEL]): Promise<string[]> {
    await untilQuiet(this.#running.admin, 60_000);
    const { counted, atMost } = this.client;
    return judgeTotals(this.received, { counted, atMost, kept });
  }

  #newClient(): MetricClient {
    const receivers = this.receivers.origins;
    return new MetricClient({ receivers, random: () => this.#target / receivers.length });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    await this.receivers[Symbol.asyncDispose]();
    await this.#running[Symbol.asyncDispose]();
    await this.redis[Symbol.asyncDispose]();
  }
}

type Users = readonly (string | number)[];

/** One process with as many series as there are users; each user's series has the same start. */
export class Shop {
  readonly kind: SeriesKind;
  readonly #instance: string;
  start: bigint;

  constructor(kind: SeriesKind = 'counter', instance = 'a') {
    this.kind = kind;
    this.#instance = instance;
    this.start = pipeline.now();
  }

  /** One point per user, all of one moment. */
  request(users: Users, value: (at: number) => SeriesValue, time = pipeline.now()): Buffer {
    const points = users.map(
      (user, at): SeriesPoint => ({
        name: this.#metric,
        kind: this.kind,
        labels: { [ENDLESS_LABEL]: `${this.#instance}-${user}`, [KEPT_LABEL]: '/cart' },
        start: this.start,
        time,
        value: value(at),
      }),
    );
    return metricsRequest({ 'service.name': 'shop', 'service.instance.id': this.#instance }, points);
  }

  /** A request in which each user has `spread(n)`, or is stale. */
  async report(users: Users, n: number | 'stale', to?: number): Promise<void> {
    const value = n === 'stale' ? n : spread(this.kind, n);
    await pipeline.send(
      this.request(users, () => value),
      to,
    );
  }

  get #metric(): string {
    return `orders${pipeline.tests}.${this.kind.replaceAll(' ', '.')}`;
  }

  /** Series until the label has been given up by this receiver: all at one, since each counts what it sees itself. */
  async storm(to = 0, first = 0): Promise<void> {
    const users = many(MANY).map((user) => user + first);
    for (let at = 0; at < users.length; at += 10) await this.report(users.slice(at, at + 10), 1, to);
    expect(await pipeline.mergedMetrics(to)).toContain(this.#metric);
  }
}

/** A value of `n`; of a histogram, that many in one bucket and thrice as many in another. */
export const spread = (kind: SeriesKind, n: number): SeriesValue =>
  kind.includes('histogram')
    ? new Map([
        [2, n],
        [9, 3 * n],
      ])
    : n;
export const many = (count: number) => Array.from({ length: count }, (_, n) => n);
export const CUMULATIVE: readonly SeriesKind[] = [
  'counter',
  'double counter',
  'histogram',
  'exponential histogram',
];

let mock: MockUpstream;
/** The one in use: see `alone`. */
export let pipeline: Pipeline;

/** Starts the pipeline of a file's tests. Each test has metrics and a ledger of its own. */
export function usePipeline(limiter?: Record<string, unknown>): void {
  const dir = temporaryDirectory();
  beforeAll(async () => {
    mock = await startMockUpstream({
      listen: '127.0.0.1:0',
      taken: (signal, body) => signal === 'metrics' && pipeline.received.take(body),
    });
    pipeline = await Pipeline.start(dir.path, limiter);
  });
  beforeEach(() => pipeline.begin());
  afterAll(async () => {
    await pipeline[Symbol.asyncDispose]();
    await mock.close();
    dir[Symbol.dispose]();
  });
}

/** Other options of the limiter, until disposed. */
export async function withLimiter(options: Record<string, unknown>): Promise<AsyncDisposable> {
  await pipeline.receivers.restartAll({ limiter: { ...LIMITER, ...options } });
  return { [Symbol.asyncDispose]: () => pipeline.receivers.restartAll({ limiter: LIMITER }) };
}

/** A pipeline of its own, with nothing in it from other tests, until disposed. */
export async function alone(limiter: Record<string, unknown>): Promise<AsyncDisposable> {
  const [shared, own] = [pipeline, temporaryDirectory()];
  pipeline = await Pipeline.start(own.path, limiter);
  return {
    [Symbol.asyncDispose]: async () => {
      await pipeline[Symbol.asyncDispose]();
      own[Symbol.dispose]();
      pipeline = shared;
    },
  };
}

/** While Redis is away nothing can be acknowledged: there is no dlq that these receivers know. */
export async function refusedOnce(body: Buffer, to: number): Promise<void> {
  await pipeline.redis.kill();
  const before = pipeline.client.retries;
  let isTaken = false;
  const sending = pipeline.send(body, to).then(() => {
    isTaken = true;
  });
  await waitUntil(() => isTaken || pipeline.client.retries > before, { what: 'the request has an answer' });
  await pipeline.redis.start();
  await sending;
}

export async function comeAndGo(kept?: readonly string[]): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = seededRandom(seed);
  const producers = many(4).map(
    (n) =>
      new MetricProducer(
        {
          seed: seed + n,
          name: `p${n}`,
          prefix: `orders${pipeline.tests}.`,
          series: 12,
          kinds: ['counter', 'double counter', 'histogram', 'exponential histogram', 'level'],
          startsWithProcess: n % 2 === 0,
          extremes: n === 3,
        },
        Date.now(),
      ),
  );
  const send = async (bodies: readonly Buffer[]) => {
    for (const body of bodies) await pipeline.send(body, Math.floor(random() * 2));
  };
  for (let round = 0; round < 24; round += 1) {
    if (round === 12) await pipeline.receivers.restartAll();
    for (const producer of producers) {
      if (random() < 0.05) producer.restart(Date.now());
      await send(producer.collect(Date.now()));
    }
  }
  for (const producer of producers) await send(producer.finish(Date.now()));
  expect(await pipeline.judge(kept), `seed ${seed}`).toEqual([]);
}
