/** What the scheduler knows can be read in three ways: as JSON, as metrics, and with redis-cli. */
import { BREAKER_REASONS, CLASSES, newBatchId, type PriorityClass, Store } from '@nrdot/queue';
import { connect } from '@nrdot/redis';
import { publishState, readState, type StateOptions } from '@nrdot/status';
import { MetricsRegistry } from '@nrdot/telemetry';
import { temporaryDirectory } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { startRedis } from '../redis-server.ts';

const NOW = 1_700_000_000_250; // in a slot of live work
const OPTIONS = {
  prefix: '{test}',
  maxBytes: 1_000_000,
  maxItems: 10_000,
  perClass: {
    critical: { maxBytes: undefined, maxItems: undefined },
    high: { maxBytes: 10_000, maxItems: undefined },
    normal: { maxBytes: undefined, maxItems: 1_000 },
  },
  spillAt: 0.95,
  spillHysteresis: 0.05,
};

it('weights, deficits, slot, breaker, fill, ages and decisions are available in all three', async () => {
  using dir = temporaryDirectory();
  await using server = await startRedis({ dir: dir.path });
  const redis = connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
  const store = new Store(redis, {
    ...OPTIONS,
    breaker: {
      failures: 5,
      throttleRatio: 0.3,
      minAnswers: 10,
      windowMs: 30_000,
      minOpenMs: 60_000,
      maxOpenMs: 60_000,
    },
  });
  const put = (priorityClass: PriorityClass, origin: 'live' | 'replay', receivedAt: number) =>
    store.enqueue(
      [
        [
          {
            id: newBatchId(NOW),
            signal: 'traces',
            class: priorityClass,
            origin,
            encoding: 'identity',
            items: 10,
            receivedAt,
            payload: Buffer.alloc(100),
          },
        ],
      ],
      NOW,
    );
  for (const c of CLASSES) for (let i = 0; i < 20; i++) await put(c, 'live', NOW - 7_000 + i);
  await put('high', 'replay', NOW - 90_000);
  const move = () =>
    store.move({
      windowBatches: 100,
      windowBytes: 1e9,
      mergeBytes: 0,
      weights: { critical: 5, high: 3, normal: 1 },
      maxPicks: 1,
      slotMs: 1e15, // all of it live
    });

  const options: StateOptions = {
    weights: () => ({ critical: 5, high: 3, normal: 1 }),
    decisionsPerSecond: () => 12.5,
    maxBytes: OPTIONS.maxBytes,
    maxItems: OPTIONS.maxItems,
    perClass: OPTIONS.perClass,
    slotMs: 500,
    notReady: () => undefined,
  };
  const read = () => readState(store, options, NOW);
  expect((await read()).deficits.live).toEqual({ critical: 0, high: 0, normal: 0 });
  // One batch of critical: the other two are behind it by 10 items / 5, times their own weights.
  await move();
  expect((await read()).deficits.live).toEqual({ critical: 0, high: 6, normal: 2 });
  // Nine batches of equal size are 5, 3 and 1: nobody is owed anything.
  for (let i = 0; i < 8; i++) await move();
  expect((await read()).deficits).toEqual({
    live: { critical: 0, high: 0, normal: 0 },
    replay: { critical: 0, high: 0, normal: 0 },
  });
  await move();
  await store.report('traces', 'auth', 0);

  const state = await read();
  expect(state).toMatchObject({
    weights: { critical: 5, high: 3, normal: 1 },
    deficits: { live: { critical: 0, high: 6, normal: 2 } },
    breaker: { state: 'open', reason: 'auth' },
    fill: 0.061,
    fillByClass: { critical: 140 / 10_000, high: 0.17, normal: 0.19 },
    oldestAgeMs: { live: { critical: 6_994 }, replay: { critical: 0, high: 90_000, normal: 0 } },
    slot: 'live',
    decisions: { total: 10, perSecond: 12.5 },
  });
  expect(state.breaker.retryAtMs).toBeGreaterThan(Date.now() + 50_000);
  expect((await readState(store, options, NOW + 500)).slot).toBe('replay');

  const registry = new MetricsRegistry(['scheduler']);
  publishState(registry, store, options, () => NOW);
  const lines = (await registry.text()).split('\n');
  for (const line of [
    'apq_deficit_items{class="high",origin="live"} 6',
    'apq_deficit_items{class="high",origin="replay"} 0',
    'apq_class_fill_ratio{class="high"} 0.17',
    'apq_class_fill_ratio{class="normal"} 0.19',
    'apq_oldest_age_seconds{class="high",origin="replay"} 90',
    'apq_slot{origin="live"} 1',
    'apq_slot{origin="replay"} 0',
    'apq_decisions_total 10',
    'apq_breaker_state{state="open",signal="traces"} 1',
    ...BREAKER_REASONS.map(
      (reason) => `apq_breaker_reason{reason="${reason}",signal="traces"} ${reason === 'auth' ? 1 : 0}`,
    ),
  ])
    expect(lines).toContain(line);
  expect(lines.find((line) => line.startsWith('apq_weight_ratio{class="critical"}'))).toContain(' 0.55');
  expect(lines.find((line) => line.startsWith('apq_breaker_probe_seconds{signal="traces"}'))).not.toContain(
    ' 0',
  );

  // And as anybody sees it who has nothing but redis-cli.
  expect(await redis.hgetall('{test}:scheduler')).toMatchObject({
    weights: '5:3:1',
    slot: expect.stringMatching(/^(live|replay)$/),
    decisions: '10',
    'moved:critical': '60',
    'live:critical': expect.stringMatching(/^\d+$/),
    'live:virtual': expect.stringMatching(/^\d+$/),
  });
  expect(await redis.hgetall('{test}:breaker:traces')).toMatchObject({ state: 'open', reason: 'auth' });
  expect(await redis.hget('{test}:depth', 'queued:high:items')).toBe('170');
  redis.disconnect();
});
