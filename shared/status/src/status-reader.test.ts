import type { Store } from '@nrdot/queue';
import { expect, it } from 'vitest';
import type { ProcessStatus } from './process-status.ts';
import type { StateOptions } from './queue-state.ts';
import type { StatusBoard } from './status-board.ts';
import { StatusReader } from './status-reader.ts';

it('goes on when the clock is set back', async () => {
  let wall = 1_700_000_000_000;
  let steady = wall;
  let requests = 0;
  const own = (): ProcessStatus => ({
    ...{ instance: 'host:1', at: wall, startedAt: wall, version: '0.1.0', rssBytes: 1 },
    services: { receiver: { requests, refusedRequests: 0, items: 0, refused: {} } },
  });
  const reader = new StatusReader({
    store: {} as Store,
    state: { notReady: () => 'Redis is away' } as StateOptions,
    accountLimits: () => ({}),
    board: { read: async () => own() } as unknown as StatusBoard,
    redis: { address: '127.0.0.1:6379', isOwn: false },
    readyForMs: () => 0,
    now: () => wall,
    steadyNow: () => steady,
  });
  /** Ten seconds at so many requests a second. */
  const status = async (perSecond: number) => {
    let last = await reader.read();
    for (let i = 0; i < 10; i++) {
      wall += 1_000;
      steady += 1_000;
      requests += perSecond;
      last = await reader.read();
    }
    return last;
  };
  expect((await status(5)).rates.requests).toBe(5);
  wall -= 3_600_000;
  const { at, rates } = await status(7);
  expect(at).toBe(wall);
  expect(rates.requests).toBe(7);
});
