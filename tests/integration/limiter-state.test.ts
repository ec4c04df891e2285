import { LimiterState } from '@nrdot/key-budget';
import { expect, it } from 'vitest';
import { OPTIONS, redis, useStore } from './store-on-redis.ts';

useStore();

const FIELD = Buffer.from('a source');

/** A source as the ledger has it, as far as its time goes. */
function sourceAt(time: bigint): Buffer {
  const value = Buffer.alloc(37, 1);
  value.writeBigUInt64LE(time, 13);
  return value;
}

it.each([
  ['the later one first', [0x1800_0000_0000_0002n, 0x1800_0000_0000_0001n]],
  ['the earlier one first', [0x1800_0000_0000_0001n, 0x1800_0000_0000_0002n]],
  ['times whose high halves differ', [0x1800_0001_0000_0000n, 0x1800_0000_ffff_ffffn]],
  ['one that is alone', [1n]],
])('a source restored by several receivers has its latest state: %s', async (_, times) => {
  const state = new LimiterState(redis, { prefix: OPTIONS.prefix, holder: 'h', leaseMs: 1_000 });
  for (const time of times) await state.restore([[FIELD, sourceAt(time)]], 0, []);
  const latest = [...times].sort((a, b) => (a < b ? -1 : 1)).at(-1)!;
  expect(await redis.hgetBuffer(`${OPTIONS.prefix}:limiter:sources`, FIELD)).toEqual(sourceAt(latest));
});

it.each([
  ['version', 'garbage'],
  ['log', 'garbage'],
  ['log', '1e400'],
  ['left', '-1'],
  ['cursor:keys', '1e400'],
  ['cursor:sources', 'garbage'],
  ['cursor:forwarded', ''],
  ['cursor:keys', '0', '1e400'],
])(
  'a field that is no number is reset by the next lease: %s is "%s"',
  async (field, value, written = 'garbage') => {
    const state = new LimiterState(redis, { prefix: OPTIONS.prefix, holder: 'h', leaseMs: 1_000 });
    const begin = {
      ...{ epoch: 'e', seed: 1, watchMs: 1, generation: 9, generationsKept: 1 },
      ...{ sourcesSinceSec: 0, log: 0, maxKeys: 10 },
    };
    const key = `${OPTIONS.prefix}:limiter`;
    await redis.hset(key, field, value);
    await redis.hset(`${key}:keys`, 'a key', 'garbage');
    await redis.hset(`${key}:forwarded`, 'another', 'garbage');
    await redis.hset(`${key}:sources`, 'a source', 'x', 'another', '12345678');
    await state.restore([[FIELD, sourceAt(1n)]], 0, []);
    await redis.hset(`${key}:sources`, FIELD, '12345678');
    await state.restore([[FIELD, sourceAt(1n)]], 0, []);
    expect(await redis.hgetBuffer(`${key}:sources`, FIELD)).toEqual(sourceAt(1n));
    await redis.hdel(`${key}:sources`, FIELD);
    await redis.hset(`${key}:writers`, '0:last', written, '0:since', written);
    const lease = await state.lease('token', false, begin);
    expect(Number(await redis.hget(key, field))).toBeGreaterThanOrEqual(0);
    expect(lease).toMatchObject({ slot: 0, epoch: 'e', writtenMs: 0, state: { keys: 0, sources: 0 } });
    expect(lease.levelsSinceMs).toBeGreaterThan(0);
  },
);
