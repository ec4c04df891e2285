import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DirectLane } from './direct-lane.ts';

describe('a step that waits for company', () => {
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

  it('leaves with the next batch, all that wait in their order, and only once', async () => {
    const lane = new DirectLane();
    const order: number[] = [];
    const rides = [1, 2].map((n) =>
      lane.ride('own', (connection: string) => {
        order.push(n);
        return step(connection);
      }),
    );
    expect(used).toEqual([]);
    lane.depart('of the batch');
    expect(await Promise.all(rides)).toEqual(['of the batch', 'of the batch']);
    expect(order).toEqual([1, 2]);
    lane.depart('of another');
    await vi.runAllTimersAsync();
    expect(used).toEqual(['of the batch', 'of the batch']);
  });

  it('leaves alone when no batch comes, and the next one has its full time again', async () => {
    const lane = new DirectLane();
    const first = lane.ride('own', step);
    await vi.advanceTimersByTimeAsync(60);
    lane.depart('of the batch');
    await first;
    const second = lane.ride('own', step);
    await vi.advanceTimersByTimeAsync(60); // past the time of the first
    expect(used).toEqual(['of the batch']);
    await vi.advanceTimersByTimeAsync(60);
    expect(await second).toBe('own');
  });

  it('goes on its own connection when that of the batch is lost, and fails when both are', async () => {
    const lane = new DirectLane();
    lost.add('of the batch');
    const saved = lane.ride('own', step);
    lane.depart('of the batch');
    expect(await saved).toBe('own');
    expect(used).toEqual(['of the batch', 'own']);
    lost.add('own');
    const failed = lane.ride('own', step);
    lane.depart('of the batch');
    await expect(failed).rejects.toThrow('own is lost');
  });
});
