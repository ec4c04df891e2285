import { expect, it } from 'vitest';
import { StatusBoard } from './status-board.ts';

it('stops even if Redis never answers its last report', async () => {
  const board = new StatusBoard('1.0.0');
  const never = () => new Promise<never>(() => {});
  let asked = 0;
  const store = {
    publishStatus: () => {
      asked++;
      return never();
    },
    appendEvents: never,
  };
  board.add('scheduler', () => ({}) as never, { store, link: { notReady: () => undefined } });
  board.note({ at: 1, event: 'redis', state: 'redis_away', level: 'error', message: 'away' } as never);
  await board.stop(20);
  expect(asked).toBe(1);
});
