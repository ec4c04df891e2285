/** Merged totals, from outside: real processes, two receivers, and a ledger that knows what a backend makes of what comes out. */
import { ENDLESS_LABEL, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import {
  alone,
  CUMULATIVE,
  comeAndGo,
  LIMITER,
  MANY,
  many,
  pipeline,
  refusedOnce,
  Shop,
  spread,
  usePipeline,
  withLimiter,
} from '../merging-kit.ts';

const EXTREMES = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

usePipeline();

describe('a refused request has no effect', () => {
  it.each(CUMULATIVE)('%s: its points count when it is sent again', async (kind) => {
    const shop = new Shop(kind);
    await shop.storm(0);
    await refusedOnce(
      shop.request(many(MANY), () => spread(kind, 7)),
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
  it('receivers in turn', async () => {
    await using _ = await alone(FULL);
    const shop = new Shop();
    for (let round = 1; round <= 6; round += 1) await shop.report(many(100), round, round % 2);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it('a tenth of the series to each in turn', async () => {
    await using _ = await alone(FULL);
    const shop = new Shop('histogram');
    for (let round = 1; round <= 6; round += 1)
      for (let at = 0; at < 100; at += 10)
        await shop.report(many(100).slice(at, at + 10), round, (at / 10 + round) % 2);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it('has room after a restart', async () => {
    await using _ = await alone(FULL);
    const shops = [new Shop('counter'), new Shop('exponential histogram')];
    const report = async (users: number[], round: number) => {
      for (const shop of shops) await shop.report(users, round, round % 2);
    };
    for (let round = 1; round <= 3; round += 1) await report(many(100), round);
    await pipeline.receivers.restartAll({ limiter: LIMITER });
    for (let round = 4; round <= 8; round += 1) await report(many(150), round);
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });

  it('a series returns after its key has expired', async () => {
    await using _ = await alone({ ...FULL, key_ttl: '2s' });
    const shops = [new Shop('double counter'), new Shop('level')];
    for (const shop of shops) await shop.report(['x', 'y'], 1, 0);
    await untilForgotten(async (round) => {
      for (const shop of shops) await shop.report(many(100), round, round % 2);
    });
    for (const shop of shops) {
      await shop.report(['x', 'y'], 5, 1);
      await shop.report(['x', 'y'], 8, 0);
    }
    expect(pipeline.client.rejected).toBe(0);
    expect(await pipeline.judge([])).toEqual([]);
  });
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

  it('a series returns without its label after its key has expired', async () => {
    await using _ = await alone({ ...LIMITER, key_ttl: '2s' });
    const shops = [new Shop('histogram'), new Shop('level')];
    for (const shop of shops) await shop.report(['x', 'y'], 1, 0);
    await untilForgotten(async (round) => {
      for (const shop of shops) await shop.report([round], 1);
    });
    for (const shop of shops) {
      await shop.storm(0, 1_000);
      await shop.report(['x', 'y'], 2, 1);
      await shop.report(['x', 'y'], 5, 0);
    }
    expect(await pipeline.judge()).toEqual([]);
  });

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

it.each([...CUMULATIVE, 'level' as const])(
  '%s: several collections of a stream in one request, once its label is stripped',
  async (kind) => {
    const shop = new Shop(kind);
    await shop.report(['x', 'y'], 1, 0);
    await shop.storm(0);
    for (const users of [['x'], ['y'], ['x', 'y']])
      await pipeline.send(Buffer.concat([3, 5, 8].map((n) => shop.request(users, () => spread(kind, n)))), 0);
    expect(await pipeline.judge()).toEqual([]);
  },
);

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
      shop.request(many(MANY), (at) =>
        at === 3
          ? new Map([
              [2, 2],
              [extreme, 1],
            ])
          : spread('histogram', 2),
      ),
    );
    await shop.report(many(MANY), 3);
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

it('random producers and receivers that come and go, restart, and split collections', () => comeAndGo());
