import { expect, it } from 'vitest';
import { driftOf, joined, type SeenJob } from './census.ts';

const job = (id: number, items = 1): SeenJob => ({
  ...{ queue: 'high', part: 'wait', id: String(id), stage: 'queued:high', held: 1 },
  ...{ items, bytes: 2, keys: [String(id)], locked: false },
});
/** Newest first, as Redis has them. */
const jobs = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, i) => job(from - i));
const ids = (all: readonly SeenJob[] | undefined) => all?.map(({ id }) => Number(id));

it('combines jobs that were added, kept and removed', () => {
  const [known, head, tail] = [jobs(100, 1), jobs(105, 96), jobs(24, 20)];
  expect(ids(joined({ length: 86, jobs: head }, known, tail))).toEqual(ids(jobs(105, 20)));
  // One was given back at the end that is next.
  expect(ids(joined({ length: 87, jobs: head }, known, [...tail, job(7_777)]))).toEqual([
    ...ids(jobs(105, 20))!,
    7_777,
  ]);
});

it('rejects a list whose ends no longer overlap with the earlier reading, unless it was read completely', () => {
  expect(joined({ length: 900, jobs: jobs(1_000, 990) }, jobs(100, 1), jobs(110, 105))).toBeUndefined();
  expect(ids(joined({ length: 11, jobs: jobs(1_000, 990) }, jobs(100, 1), jobs(995, 990)))).toEqual(
    ids(jobs(1_000, 990)),
  );
});

it('finds the drift of the depth by field, and none if it is correct', () => {
  const right = {
    ...{ 'queued:high:batches': '2', 'queued:high:items': '8', 'queued:high:bytes': '4' },
    ...{ 'total:batches': '2', 'total:items': '8', 'total:bytes': '4' },
  };
  const held = [job(1, 3), job(2, 5), { ...job(3), held: 0 }];
  expect(driftOf(right, held)).toEqual({});
  expect(driftOf({ ...right, 'queued:high:items': '7', 'spill:normal:bytes': '9' }, held)).toEqual({
    'queued:high:items': -1,
    'spill:normal:bytes': 9,
  });
  expect(driftOf({ ...right, 'total:items': 'x' }, held)).toEqual({ 'total:items': -8 });
});
