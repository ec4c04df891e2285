import { expect, it } from 'vitest';
import { replayPace } from './replay-pace.ts';

const MIB = 1024 * 1024;

it('judges the pace by the figure in its promise', () => {
  for (const mibPerSecond of [0.1, 3.9, 4.3, 4.9, 5, 5.1, 6, 40]) {
    const { promise, measured, outcome } = replayPace(mibPerSecond * MIB);
    const most = Number(/at most ([\d.]+) MiB\/s/.exec(promise)?.[1]);
    expect(Number.parseFloat(measured)).toBeCloseTo(mibPerSecond, 1);
    expect([mibPerSecond, outcome]).toEqual([mibPerSecond, mibPerSecond <= most ? 'held' : 'broken']);
  }
  expect(replayPace(0).outcome).toBe('unmeasured');
});
