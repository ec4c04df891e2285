import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keptFree, reserveOf } from './reserve.ts';

const MIB = 2 ** 20;

let temporary: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  temporary = temporaryDirectory();
  mkdirSync(join(temporary.path, 'redis'));
});
afterEach(() => temporary[Symbol.dispose]());

describe('what the dlq leaves free on its disk', () => {
  const reserve = async (redisIsOwn: boolean, dir = temporary.path, reserveBytes?: number) => {
    const config = { dataDir: temporary.path, queue: { maxBytes: 100 * MIB }, dlq: { reserveBytes } };
    return keptFree(await reserveOf(config as unknown as Parameters<typeof reserveOf>[0], dir, redisIsOwn));
  };

  it('is 64 MiB, and room for the AOF of a Redis that this process runs on the same disk', async () => {
    expect(await reserve(false)).toBe(64 * MIB);
    expect(await reserve(true)).toBe(364 * MIB);
  });

  it('is less by what the AOF has taken', async () => {
    mkdirSync(join(temporary.path, 'redis', 'appendonlydir'));
    writeFileSync(
      join(temporary.path, 'redis', 'appendonlydir', 'appendonly.aof.1.base.rdb'),
      Buffer.alloc(20 * MIB),
    );
    expect(await reserve(true)).toBe(344 * MIB);
  });

  it('has no room for an AOF that is on another disk', async () => {
    expect(await reserve(true, '/dev')).toBe(64 * MIB);
  });

  it('is what the configuration says, whatever the disk holds', async () => {
    expect(await reserve(true, temporary.path, 5 * MIB)).toBe(5 * MIB);
  });
});
