import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InProcessHandOff } from './in-process-hand-off.ts';

describe('a deferred settlement', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const lost = new Set<string>();
  afterEach(() => lost.clear());
  const used: string[] = [];
  beforeEach(() => void used.splice(0));
  /** Says on which connection it was made. */
  const step = async (connection: string): Promise<string> => {
    used.push(connection);
    if (lost.has(connection)) throw new Error(`${connection} is lost`);
    return connection;
  };

  it('is sent with the next batch, several in their order, and only once', async () => {
    const handOff = new InProcessHandOff();
    const order: number[] = [];
    const settlements = [1, 2].map((n) =>
      handOff.deferSettlement('own', (connection: string) => {
        order.push(n);
        return step(connection);
      }),
    );
    expect(used).toEqual([]);
    handOff.settleDeferred('of the batch');
    expect(await Promise.all(settlements)).toEqual(['of the batch', 'of the batch']);
    expect(order).toEqual([1, 2]);
    handOff.settleDeferred('of another');
    await vi.runAllTimersAsync();
    expect(used).toEqual(['of the batch', 'of the batch']);
  });

  it('is sent alone when no batch comes, and the next one is deferred for the full time', async () => {
    const handOff = new InProcessHandOff();
    const first = handOff.deferSettlement('own', step);
    await vi.advanceTimersByTimeAsync(60);
    handOff.settleDeferred('of the batch');
    await first;
    const second = handOff.deferSettlement('own', step);
    await vi.advanceTimersByTimeAsync(60); // past the time of the first
    expect(used).toEqual(['of the batch']);
    await vi.advanceTimersByTimeAsync(60);
    expect(await second).toBe('own');
  });

  it('falls back to its own connection when that of the batch is lost, and fails when both are', async () => {
    const handOff = new InProcessHandOff();
    lost.add('of the batch');
    const saved = handOff.deferSettlement('own', step);
    handOff.settleDeferred('of the batch');
    expect(await saved).toBe('own');
    expect(used).toEqual(['of the batch', 'own']);
    lost.add('own');
    const failed = handOff.deferSettlement('own', step);
    handOff.settleDeferred('of the batch');
    await expect(failed).rejects.toThrow('own is lost');
  });
});
