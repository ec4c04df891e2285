import { expect, it } from 'vitest';
import type { Batch } from './batch.ts';
import { Enqueuer, NotSent } from './enqueuer.ts';

const LIMIT_MS = 20;
const one = { payload: Buffer.from('payload') } as unknown as Batch;

it('lets no request wait longer than its limit, and says of each whether it may have been kept', async () => {
  let answer = () => {};
  const commits: number[] = [];
  const enqueuer = new Enqueuer(
    async (groups) => {
      commits.push(groups.length);
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
      return groups.map(() => ({ results: ['queued' as const] }));
    },
    Date.now,
    LIMIT_MS,
  );
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
