/** The product's scripts with parts replaced, for as long as something runs. */
import { expect, vi } from 'vitest';
import { RedisModel } from './redis.ts';

export interface Replacement {
  sound: string;
  broken: string;
}

export async function withScripts<T>(parts: readonly Replacement[], run: () => Promise<T>): Promise<T> {
  const real = RedisModel.prototype.eval;
  const changed = new Set<Replacement>();
  const spy = vi.spyOn(RedisModel.prototype, 'eval').mockImplementation(function (
    this: RedisModel,
    lua,
    keys,
    args,
  ) {
    let mutated = lua;
    for (const part of parts) {
      const before = mutated;
      mutated = mutated.replace(part.sound, () => part.broken);
      if (mutated !== before) changed.add(part);
    }
    return real.call(this, mutated, keys, args);
  });
  try {
    return await run();
  } finally {
    spy.mockRestore();
    expect(changed.size, 'parts that were replaced').toBe(parts.length);
  }
}
