import type { ClaimAnswer } from '@nrdot/key-budget';
import { expect, it } from 'vitest';
import type { Batch } from './batch.ts';
import { Enqueuer, NotSent, type SharedState } from './enqueuer.ts';
import type { Group } from './steps.ts';

const LIMIT_MS = 20;
const one = { payload: Buffer.from('payload') } as unknown as Batch;

it('lets no request wait beyond its limit, and reports for each whether it may have been stored', async () => {
  let answer = () => {};
  const commits: number[] = [];
  const enqueuer = new Enqueuer(async (groups) => {
    commits.push(groups.length);
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return groups.map(() => ({ results: ['queued' as const] }));
  }, LIMIT_MS);
  const [begun, waiting] = [enqueuer.enqueue([one]), enqueuer.enqueue([one])];
  const errors = await Promise.all(
    [begun, waiting].map((each) => each.then(String, (error: unknown) => error)),
  );
  expect(errors.map((error) => error instanceof NotSent)).toEqual([false, true]);
  expect(errors.map(String)).toEqual([
    expect.stringMatching(/within 0.02 s/),
    expect.stringMatching(/within 0.02 s/),
  ]);
  // What was given up before its turn is not sent when Redis answers again.
  answer();
  await enqueuer.idle();
  expect(commits).toEqual([1]);
});

it('asks Redis if nothing of a request has to be stored but the ledger may have changed', async () => {
  const asked: number[] = [];
  const state = { keep: () => {}, undoLast: () => {}, catchUp: async () => {} } as unknown as SharedState;
  const enqueuer = new Enqueuer(
    async (groups) => {
      asked.push(...groups.map(({ claim }) => claim!.claim.sources.length));
      return groups.map(() => ({ results: [], answer: { kind: 'kept' } as ClaimAnswer }));
    },
    Number.POSITIVE_INFINITY,
    state,
  );
  const of = (sources: readonly Buffer[], held: readonly Buffer[] = []) =>
    ({ batches: [], claim: { claim: { hasRefused: false, sources, held } } }) as unknown as Group;
  const [field, none] = [Buffer.alloc(8), Buffer.alloc(0)];
  expect(await enqueuer.enqueue({ prepare: () => of([]) })).toEqual([]);
  expect(asked).toEqual([]);
  expect(await enqueuer.enqueue({ prepare: () => of([field, none, none]) })).toEqual([]);
  expect(asked).toEqual([3]);
  // Points that wait for their interval are kept by the step, though no batch leaves with it.
  expect(await enqueuer.enqueue({ prepare: () => of([], [field, none]) })).toEqual([]);
  expect(asked).toEqual([3, 0]);
});
