/** Merged totals, from outside: real processes, two receivers, and a ledger that knows what a backend makes of what comes out. */
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
import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Running, startServices, untilQuiet } from '../kit.ts';
import { Receivers } from '../receivers.ts';

/** The label is given up as soon as a metric has some series: it acts at once. There is room for the sources of all tests. */
const LIMITER = { max_keys: 8_192, act_above: 0, aggregate_labels: [ENDLESS_LABEL] };
/** More than it takes until the label is given up: √max_keys series, and some more that are scored. */
const MANY = 120;
const MS_NS = 1_000_000n;
const EXTREMES = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

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

/** One process with as many series as there are users; each user's series has the same start. */
class Shop {
  readonly #kind: SeriesKind;
  readonly #instance: string;
  start: bigint;

  constructor(kind: SeriesKind = 'counter', instance = 'a') {
    this.#kind = kind;
    this.#instance = instance;
    this.start = pipeline.now();
  }

  /** One point per user, all of one moment. */
  request(
    users: readonly (string | number)[],
    value: (at: number) => SeriesValue,
    time = pipeline.now(),
  ): Buffer {
    const points = users.map(
      (user, at): SeriesPoint => ({
        name: this.#metric,
        kind: this.#kind,
        labels: { [ENDLESS_LABEL]: `${this.#instance}-${user}`, [KEPT_LABEL]: '/cart' },
        start: this.start,
        time,
        value: value(at),
      }),
    );
    return metricsRequest({ 'service.name': 'shop', 'service.instance.id': this.#instance }, points);
  }

  async report(users: readonly (string | number)[], value: SeriesValue, to?: number): Promise<void> {
    await pipeline.send(
      this.request(users, () => value),
      to,
    );
  }

  get #metric(): string {
    return `orders${pipeline.tests}.${this.#kind.replaceAll(' ', '.')}`;
  }

  /** Series until the label has been given up by this receiver: all at one, since each counts what it sees itself. */
  async storm(to = 0, first = 0): Promise<void> {
    const users = many(MANY).map((user) => user + first);
    for (let at = 0; at < users.length; at += 10) await this.report(users.slice(at, at + 10), this.one(), to);
    expect(await pipeline.mergedMetrics(to)).toContain(this.#metric);
  }

  one(): SeriesValue {
    return this.#kind.includes('histogram') ? new Map([[2, 1]]) : 1;
  }
}

const many = (count: number) => Array.from({ length: count }, (_, n) => n);
const CUMULATIVE: readonly SeriesKind[] = ['counter', 'double counter', 'histogram', 'exponential histogram'];

let dir: ReturnType<typeof temporaryDirectory>;
let mock: MockUpstream;
let pipeline: Pipeline;
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    taken: (signal, body) => signal === 'metrics' && pipeline.received.take(body),
  });
  pipeline = await Pipeline.start(dir.path);
});
beforeEach(() => pipeline.begin());
afterAll(async () => {
  await pipeline[Symbol.asyncDispose]();
  await mock.close();
  dir[Symbol.dispose]();
});

/** Other options of the limiter, until disposed. */
async function withLimiter(options: Record<string, unknown>): Promise<AsyncDisposable> {
  await pipeline.receivers.restartAll({ limiter: { ...LIMITER, ...options } });
  return { [Symbol.asyncDispose]: () => pipeline.receivers.restartAll({ limiter: LIMITER }) };
}

/** A pipeline of its own, with nothing in it from other tests, until disposed. */
async function alone(limiter: Record<string, unknown>): Promise<AsyncDisposable> {
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
async function refusedOnce(body: Buffer, to: number): Promise<void> {
  await pipeline.redis.kill();
  const before = pipeline.client.retries;
  let isTaken = false;
  const sending = pipeline.send(body, to).then(() => {
    isTaken = true;
  });
  await waitUntil(() => isTaken || pipeline.client.retries > before, { what: 'the request had an answer' });
  await pipeline.redis.start();
  await sending;
}

describe('a refused request has no effect', () => {
  it.each(CUMULATIVE)('%s: its points count when it is sent again', async (kind) => {
    const shop = new Shop(kind);
    await shop.storm(0);
    const twice = kind.includes('histogram')
      ? new Map([
          [2, 1],
          [9, 4],
        ])
      : 7;
    await refusedOnce(
      shop.request(many(MANY), () => twice),
      0,
    );
    expect(await pipeline.judge()).toEqual([]);
  });

  it('a job that reports its total once, at its end, loses nothing', async () => {
    const shop = new Shop();
    await shop.storm(0);
    await refusedOnce(
      shop.request(['job'], () => 1_000),
      0,
    );
    expect(await pipeline.judge()).toEqual([]);
  });

  it('a stream whose label is stripped by the refused request loses nothing', async () => {
    const shop = new Shop();
    await shop.report(['x'], 100, 0);
    await shop.storm(0);
    await refusedOnce(
      shop.request(['x'], () => 150),
      0,
    );
    await shop.report(['x'], 170, 0);
    expect(await pipeline.judge()).toEqual([]);
  });
});

describe('several receivers', () => {
  it('in turn: the total of six clients with 100 series each', async () => {
    const shops = many(6).map((n) => new Shop('counter', `client${n}`));
    const values = shops.map(() => many(100).map(() => 0));
    for (let round = 0; round < 20; round += 1)
      for (const [n, shop] of shops.entries()) {
        const counts = values[n]!;
        for (let at = 0; at < counts.length; at += 1) counts[at]! += 1 + ((at + round) % 10);
        await pipeline.send(
          shop.request(many(100), (at) => counts[at]!),
          (round + n) % 2,
        );
      }
    expect(await pipeline.judge()).toEqual([]);
    const [group] = pipeline.client.counted.groups([]).values();
    expect(group!.total.parts.get('value')! >> 1_074n).toBe(66_000n);
    expect(pipeline.received.points).toBeLessThan(pipeline.client.counted.points / 2);
  });

  it('of which only one has stripped the label: one policy for all', async () => {
    const shop = new Shop();
    await shop.storm(0);
    for (const value of [10, 20, 30]) {
      await shop.report(many(MANY), value, 1);
      await shop.report(many(MANY), value + 5, 0);
    }
    expect(await pipeline.judge()).toEqual([]);
  });

  it('a stable set of series at one of them is never refused while the pipeline has room', async () => {
    const options = { max_keys: 128, aggregate_labels: [], protected_labels: [ENDLESS_LABEL] };
    await using _ = await alone(options);
    const shop = new Shop();
    await shop.report(['elsewhere'], 1, 1); // the other one has its share
    for (let round = 1; round <= 5; round += 1)
      for (let at = 0; at < 100; at += 10) await shop.report(many(100).slice(at, at + 10), round, 0);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge()).toEqual([]);
  });

  it('more than a thousand simultaneous requests: time advances in every stream', async () => {
    const shop = new Shop();
    await shop.storm(0);
    const moment = pipeline.now();
    for (let user = 0; user < 1_100; user += 1) await pipeline.send(shop.request([user], () => 3, moment));
    expect(await pipeline.judge()).toEqual([]);
  });
});

describe('a full table', () => {
  /** No label may be given up, so what finds no room goes into the overflow stream. */
  const FULL = {
    max_keys: 64,
    act_above: 0,
    aggregate_labels: [],
    protected_labels: [ENDLESS_LABEL],
    critical_action: 'overflow',
  };
  const value = (kind: SeriesKind, round: number): SeriesValue =>
    kind.includes('histogram')
      ? new Map([
          [2, round],
          [9, 2 * round],
        ])
      : round;

  it('receivers in turn', async () => {
    await using _ = await alone(FULL);
    const kind = 'counter';
    const shop = new Shop(kind);
    for (let round = 1; round <= 6; round += 1) await shop.report(many(100), value(kind, round), round % 2);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it('a tenth of the series to each in turn', async () => {
    await using _ = await alone(FULL);
    const kind = 'histogram';
    const shop = new Shop(kind);
    for (let round = 1; round <= 6; round += 1)
      for (let at = 0; at < 100; at += 10)
        await shop.report(many(100).slice(at, at + 10), value(kind, round), (at / 10 + round) % 2);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it.each(['counter', 'exponential histogram'] as const)('%s: has room after a restart', async (kind) => {
    await using _ = await alone(FULL);
    const shop = new Shop(kind);
    for (let round = 1; round <= 3; round += 1) await shop.report(many(100), value(kind, round), round % 2);
    await pipeline.receivers.restartAll({ limiter: LIMITER });
    for (let round = 4; round <= 8; round += 1) await shop.report(many(150), value(kind, round), round % 2);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it.each(['double counter', 'level'] as const)(
    '%s: a series returns after its key has expired',
    async (kind) => {
      await using _ = await alone({ ...FULL, key_ttl: '2s' });
      const shop = new Shop(kind);
      const [seldom, steady] = [['x', 'y'], many(100)];
      await shop.report(seldom, value(kind, 1), 0);
      await untilForgotten(async (round) => shop.report(steady, value(kind, round), round % 2));
      await shop.report(seldom, value(kind, 5), 1);
      await shop.report(seldom, value(kind, 8), 0);
      expect(pipeline.client.rejected).toBe(0);
      expect(await pipeline.judge([])).toEqual([]);
    },
  );
});

/** Reports the others again and again, until no receiver and not Redis knows the keys that were there before. */
async function untilForgotten(report: (round: number) => Promise<void>): Promise<void> {
  const redis = new Redis(pipeline.redis.url);
  const keys = async () =>
    (await redis.hkeysBuffer('{nrdot}:limiter:keys')).map((key) => key.toString('hex'));
  const before = await keys();
  let round = 1;
  await waitUntil(
    async () => {
      await report(round++);
      const now = new Set(await keys());
      const { origins } = pipeline.receivers;
      return (
        !before.some((key) => now.has(key)) &&
        (await pipeline.receivers.metric('cl_evictions_total')) >= before.length * origins.length
      );
    },
    { what: 'the keys have expired', everyMs: 200 },
  );
  redis.disconnect();
}

describe('sources that the limiter has not seen', () => {
  it.each<NodeJS.Signals>(['SIGTERM', 'SIGKILL'])(
    'a series that starts after a restart (%s), with the start of its process, counts whole',
    async (signal) => {
      const shop = new Shop();
      await shop.storm();
      await shop.report(many(MANY), 5);
      await pipeline.receivers.restartAll({}, signal);
      await shop.report([...many(MANY), 'new'], 50);
      for (const user of many(20)) await shop.report([...many(MANY), 'new', `new${user}`], 60 + user);
      expect(await pipeline.judge()).toEqual([]);
    },
  );

  it('the same if any key of the metric has expired', async () => {
    await using _ = await withLimiter({ key_ttl: '1s' });
    const shop = new Shop();
    const living = many(MANY).slice(0, 10);
    await shop.storm();
    let value = 2;
    await waitUntil(
      async () => {
        await shop.report(living, value++);
        return (await pipeline.receivers.metric('cl_evictions_total')) > 0;
      },
      { what: 'a key or a source has expired', everyMs: 100 },
    );
    await shop.report([...living, 'new'], value + 50);
    expect(await pipeline.judge()).toEqual([]);
  });

  it.each(['histogram', 'level'] as const)(
    '%s: a series returns without its label after its key has expired',
    async (kind) => {
      await using _ = await alone({ ...LIMITER, key_ttl: '2s' });
      const shop = new Shop(kind);
      await shop.report(['x', 'y'], shop.one(), 0);
      const twice = kind.includes('histogram') ? new Map([[2, 2]]) : 2;
      await untilForgotten((round) => shop.report([round], shop.one()));
      await shop.storm(0, 1_000);
      await shop.report(['x', 'y'], twice, 1);
      await shop.report(['x', 'y'], kind.includes('histogram') ? new Map([[2, 5]]) : 5, 0);
      expect(await pipeline.judge()).toEqual([]);
    },
  );

  it('a start that moves forward, but not beyond the last time, is a reset', async () => {
    const shop = new Shop();
    await shop.storm();
    const between = pipeline.now();
    await shop.report(many(MANY), 10);
    shop.start = between;
    await shop.report(many(MANY), 25);
    expect(await pipeline.judge()).toEqual([]);
  });
});

it('from observe to enforce: a hand-over like any other', async () => {
  await using _ = await withLimiter({ mode: 'observe' });
  const shop = new Shop();
  await shop.storm();
  for (const value of [5, 10, 15]) await shop.report(many(MANY), value);
  await pipeline.receivers.restartAll({ limiter: LIMITER });
  for (const value of [20, 25, 30]) await shop.report(many(MANY), value);
  await shop.storm(undefined, MANY);
  expect(await pipeline.judge()).toEqual([]);
});

describe('what is not a number', () => {
  it.each(EXTREMES)(
    '%s, once, in a counter: that increment is dropped, and the next continues',
    async (extreme) => {
      const shop = new Shop('double counter');
      await shop.storm();
      await pipeline.send(shop.request(many(MANY), (at) => (at === 3 ? extreme : 4.5)));
      await shop.report(many(MANY), 8.25);
      expect(await pipeline.judge()).toEqual([]);
    },
  );

  it.each(EXTREMES)('%s, once, as the sum of a histogram', async (extreme) => {
    const shop = new Shop('histogram');
    await shop.storm();
    await pipeline.send(
      shop.request(
        many(MANY),
        (at) =>
          new Map(
            at === 3
              ? [
                  [2, 2],
                  [extreme, 1],
                ]
              : [[2, 2]],
          ),
      ),
    );
    await shop.report(many(MANY), new Map([[2, 3]]));
    expect(await pipeline.judge()).toEqual([]);
  });
});

describe('levels', () => {
  it('of pods replaced by a rollout end at once if they send a staleness marker', async () => {
    const pods = ['old', 'new'].map((name) => new Shop('level', name));
    for (const pod of pods.slice(0, 1)) await pod.storm();
    await pods[0]!.report(many(MANY), 40);
    await pods[1]!.report(many(MANY), 30);
    await pods[0]!.report(many(MANY), 'stale');
    await pods[1]!.report(many(MANY), 35);
    expect(await pipeline.judge()).toEqual([]);
  });

  it('without sources leave nothing in Redis', async () => {
    const redis = new Redis(pipeline.redis.url);
    const kept = async () => {
      const hashes = await redis.keys('*:limiter:levels:*');
      const sizes = await Promise.all(hashes.map((key) => redis.hlen(key)));
      return sizes.reduce((sum, size) => sum + size, 0);
    };
    const shop = new Shop('level');
    await shop.storm(0);
    await shop.report(many(MANY), 40, 0);
    const before = await kept();
    await shop.report(many(MANY), 'stale', 0);
    expect(await kept()).toBeLessThan(before);
    redis.disconnect();
    expect(await pipeline.judge()).toEqual([]);
  });

  it('that were forwarded until their label was stripped, and then end, are gone', async () => {
    const shop = new Shop('level');
    await shop.report(['x'], 30, 0);
    await shop.storm();
    await shop.report(['x'], 'stale', 1);
    await shop.report(many(MANY), 2);
    expect(await pipeline.judge()).toEqual([]);
  });

  it('that move and end in one request at another receiver are gone', async () => {
    const shop = new Shop('level');
    await shop.storm();
    await shop.report(many(MANY), 40, 0);
    const [moved, ended] = [pipeline.now(), pipeline.now()];
    await pipeline.send(
      Buffer.concat([shop.request([1], () => 50, moved), shop.request([1], () => 'stale', ended)]),
      1,
    );
    await shop.report(many(MANY).slice(2), 60, 1);
    expect(await pipeline.judge()).toEqual([]);
  });

  it('are the sum of the last values of their sources, at any receiver', async () => {
    const shop = new Shop('level');
    await shop.storm();
    for (let round = 0; round < 10; round += 1)
      await pipeline.send(shop.request(many(MANY), (at) => (at * 7 + round * 13) % 50));
    expect(await pipeline.judge()).toEqual([]);
  });
});

describe('temporality: delta', () => {
  /** Every stream by itself: nothing is merged but what gives its label up. */
  const EACH = [ENDLESS_LABEL, KEPT_LABEL];
  const AS_DELTAS = { ...LIMITER, temporality: 'delta' };
  let own: AsyncDisposable;
  beforeAll(async () => {
    own = await alone(AS_DELTAS);
  });
  afterAll(() => own[Symbol.asyncDispose]());
  const value = (kind: SeriesKind, n: number): SeriesValue =>
    kind.includes('histogram')
      ? new Map([
          [2, n],
          [9, 3 * n],
        ])
      : n;
  const few = many(20);

  it('of every kind: at any receiver, across restarts', async () => {
    const shops = CUMULATIVE.map((kind) => ({ kind, shop: new Shop(kind) }));
    const report = async (users: readonly (string | number)[], n: number) => {
      for (const { kind, shop } of shops)
        await pipeline.send(shop.request(users, (at) => value(kind, n * (at + 1))));
    };
    for (let round = 1; round <= 4; round += 1) await report(few, round);
    await pipeline.receivers.restartAll({}, 'SIGKILL');
    for (let round = 5; round <= 8; round += 1) await report(few, round);
    for (const { shop } of shops) shop.start = pipeline.now(); // their process was restarted
    for (let round = 1; round <= 2; round += 1) await report([...few, 'new'], round);
    expect(await pipeline.judge(EACH)).toEqual([]);
    expect(pipeline.received.streams).toBe(CUMULATIVE.length * 21);
    expect(pipeline.received.cumulativeCounts).toBe(0);
  });

  it.each(['counter', 'exponential histogram'] as const)('%s: a refused request', async (kind) => {
    const shop = new Shop(kind);
    await shop.report(few, value(kind, 1), 1);
    await refusedOnce(
      shop.request(few, (at) => value(kind, 3 + at)),
      0,
    );
    await shop.report(few, value(kind, 40), 1);
    expect(await pipeline.judge(EACH)).toEqual([]);
    expect(pipeline.received.cumulativeCounts).toBe(0);
  });

  it.each(['double counter', 'histogram'] as const)('%s: then a label is stripped', async (kind) => {
    const shop = new Shop(kind);
    await shop.report(few, value(kind, 7), 0);
    await shop.storm(0, 100);
    await shop.report(few, value(kind, 9), 1);
    await shop.report(few, value(kind, 12), 0);
    expect(await pipeline.judge()).toEqual([]);
    expect(pipeline.received.cumulativeCounts).toBe(0);
  });

  it('random producers', async () => {
    await comeAndGo(EACH);
    expect(pipeline.received.cumulativeCounts).toBe(0);
  });

  it('levels stay as they are', async () => {
    const shop = new Shop('level');
    for (let round = 0; round < 6; round += 1)
      await pipeline.send(shop.request(few, (at) => (at * 7 + round * 13) % 50));
    expect(await pipeline.judge(EACH)).toEqual([]);
  });

  it('turned on with cumulative streams: each is handed over', async () => {
    await pipeline.receivers.restartAll({ limiter: LIMITER });
    const shop = new Shop();
    for (const n of [5, 8]) await pipeline.send(shop.request(few, (at) => n * (at + 1)));
    await pipeline.receivers.restartAll({ limiter: AS_DELTAS });
    for (const n of [11, 15, 16]) await pipeline.send(shop.request(few, (at) => n * (at + 1)));
    expect(await pipeline.judge(EACH)).toEqual([]);
    expect(pipeline.received.cumulativeCounts).toBe(few.length);
    expect(pipeline.received.streams).toBe(2 * few.length);
  });
});

describe('merge_interval', () => {
  /** Nothing leaves by itself while a test runs: only what receivers send when they end, or what others find. */
  const HELD = { merge_interval: '1h' };
  const twice = (kind: SeriesKind) =>
    kind.includes('histogram')
      ? new Map([
          [2, 1],
          [9, 4],
        ])
      : 7;
  /** A receiver that ends sends what waits with it. */
  const allOut = () => pipeline.receivers.restartAll();

  describe.each(['cumulative', 'delta'])('%s', (temporality) => {
    let limiter: AsyncDisposable;
    beforeAll(async () => {
      limiter = await withLimiter({ ...HELD, merged_temporality: temporality });
    });
    afterAll(() => limiter[Symbol.asyncDispose]());

    it.each([...CUMULATIVE, 'delta' as const, 'delta histogram' as const])(
      '%s: one point per stream and writer, with exact totals',
      async (kind) => {
        const shop = new Shop(kind);
        await shop.storm(0);
        await shop.report(many(MANY), twice(kind));
        await allOut();
        await pipeline.judge();
        const before = pipeline.received.points;
        for (let round = 0; round < 10; round += 1) await shop.report(many(MANY), twice(kind));
        await pipeline.send(shop.request(['new'], () => twice(kind)));
        await allOut();
        expect(await pipeline.judge()).toEqual([]);
        expect(pipeline.received.points - before).toBeLessThanOrEqual(pipeline.receivers.origins.length);
      },
    );

    it.each(['counter', 'histogram', 'delta histogram'] as const)('%s: a killed receiver', async (kind) => {
      const shop = new Shop(kind);
      await shop.storm(0);
      await shop.report(many(MANY), shop.one(), 0);
      await shop.report(many(MANY), twice(kind), 1);
      await pipeline.receivers.end(1, 'SIGKILL');
      await shop.report(many(MANY), twice(kind), 0);
      await pipeline.receivers.begin(1);
      await allOut();
      expect(await pipeline.judge()).toEqual([]);
    });

    it.each(['double counter', 'exponential histogram'] as const)('%s: a refused request', async (kind) => {
      const shop = new Shop(kind);
      await shop.storm(0);
      await refusedOnce(
        shop.request(many(MANY), () => twice(kind)),
        0,
      );
      await allOut();
      expect(await pipeline.judge()).toEqual([]);
    });
  });

  it('deferred points of a receiver that is gone are sent by another', async () => {
    await using _ = await withLimiter(HELD);
    const shop = new Shop();
    await shop.storm(0);
    await shop.report(many(MANY), 5, 1);
    await pipeline.receivers.end(1, 'SIGKILL');
    const group = () =>
      pipeline.received.groups([]).values().next().value!.total.parts.get('value')! >> 1_074n;
    await waitUntil(() => pipeline.received.points > 0 && group() >= BigInt(4 * MANY), {
      what: 'the points of the dead receiver have arrived',
      timeoutMs: 60_000,
    });
    await pipeline.receivers.begin(1);
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
  });

  it('are sent when the interval is over', async () => {
    await using _ = await withLimiter({ merge_interval: '1s' });
    const shop = new Shop();
    await shop.storm(0);
    const total = () => [...pipeline.received.groups([]).values()][0]?.total.parts.get('value') ?? 0n;
    for (let round = 1; round <= 3; round += 1) {
      await shop.report(many(MANY), 10 * round);
      await waitUntil(() => total() >> 1_074n === BigInt(10 * round * MANY), { what: 'all has arrived' });
    }
    expect(await pipeline.judge()).toEqual([]);
  });

  it('levels are the sum of the last values of their sources, and end', async () => {
    await using _ = await withLimiter(HELD);
    const shop = new Shop('level');
    await shop.report(['x'], 30, 0);
    await shop.storm(0);
    for (let round = 0; round < 5; round += 1)
      await pipeline.send(shop.request(many(MANY), (at) => (at * 7 + round * 13) % 50));
    await shop.report(['x'], 'stale', 1);
    await allOut();
    await shop.report(many(10), 'stale');
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
  });

  it('gauges combine the sources of all requests in it, never the times of one', async () => {
    await using _ = await withLimiter({ ...HELD, gauge_reducer: 'sum' });
    const shop = new Shop('gauge');
    await shop.storm(0);
    await allOut();
    await pipeline.judge();
    pipeline.received = new MetricLedger();
    for (const value of [2, 3]) for (const user of many(MANY)) await shop.report([user], value, 0);
    await allOut();
    await pipeline.judge();
    const readings = [...[...pipeline.received.groups([]).values()][0]!.readings];
    expect(readings.map((reading) => reading.split(' ')[1])).toEqual(['240', '360']);
  });

  it('with a Redis that loses its data', async () => {
    await using _ = await withLimiter(HELD);
    const shop = new Shop();
    await shop.storm(0);
    await shop.report(many(MANY), 5);
    await shop.report(many(MANY), 6);
    await pipeline.redis.kill();
    await pipeline.redis.start();
    await shop.report(many(MANY), 8);
    await shop.report(many(MANY), 9);
    await allOut();
    expect(await pipeline.judge()).toEqual([]);
  });
});

it('random producers and receivers that come and go, restart, and split collections', () => comeAndGo());

async function comeAndGo(kept?: readonly string[]): Promise<void> {
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
