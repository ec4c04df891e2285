import { expect, it } from 'vitest';
import { oneRun } from './one-run.ts';

it('one run is in flight at a time: who comes meanwhile waits for it, also if it fails', async () => {
  const runs: ((failure?: Error) => void)[] = [];
  const task = oneRun(
    () => new Promise((resolve, reject) => runs.push((failure) => (failure ? reject(failure) : resolve()))),
  );
  expect(task.current).toBeUndefined();
  const first = task();
  expect([task(), task.current]).toEqual([first, first]);
  runs[0]!(new Error('away'));
  await expect(first).rejects.toThrow('away');
  expect(task.current).toBeUndefined();
  const second = task();
  runs[1]!();
  await second;
  expect(runs.length).toBe(2);
});
