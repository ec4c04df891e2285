import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DeferredSettlements } from './deferred-settlements.ts';

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

  it('is sent once with the next command, several in order', async () => {
    const deferred = new DeferredSettlements();
    const order: number[] = [];
    const settlements = [1, 2].map((n) =>
      deferred.defer('own', (connection: string) => {
        order.push(n);
        return step(connection);
      }),
    );
    expect(used).toEqual([]);
    deferred.sendOn('of the command');
    expect(await Promise.all(settlements)).toEqual(['of the command', 'of the command']);
    expect(order).toEqual([1, 2]);
    deferred.sendOn('of another');
    await vi.runAllTimersAsync();
    expect(used).toEqual(['of the command', 'of the command']);
  });

  it('is sent alone if no command follows, and the next one is deferred for the full time', async () => {
    const deferred = new DeferredSettlements();
    const first = deferred.defer('own', step);
    await vi.advanceTimersByTimeAsync(60);
    deferred.sendOn('of the command');
    await first;
    const second = deferred.defer('own', step);
    await vi.advanceTimersByTimeAsync(60); // past the time of the first
    expect(used).toEqual(['of the command']);
    await vi.advanceTimersByTimeAsync(60);
    expect(await second).toBe('own');
  });

  it('falls back to its own connection if that of the command is lost, and fails if both are', async () => {
    const deferred = new DeferredSettlements();
    lost.add('of the command');
    const saved = deferred.defer('own', step);
    deferred.sendOn('of the command');
    expect(await saved).toBe('own');
    expect(used).toEqual(['of the command', 'own']);
    lost.add('own');
    const failed = deferred.defer('own', step);
    deferred.sendOn('of the command');
    await expect(failed).rejects.toThrow('own is lost');
  });
});
