import { expect, it } from 'vitest';
import { Crossing } from './crossing.ts';

const later = () => {
  let finish = () => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { done, finish };
};

it('waits until current users have left, and admits no new ones meanwhile', async () => {
  const crossing = new Crossing();
  const story: string[] = [];
  const [first, held] = [later(), later()];
  const passing = crossing.pass(() => first.done.then(() => story.push('first passed')));
  const holding = crossing.hold(60_000, async (isStill) => {
    story.push(`held, still: ${isStill}`);
    await held.done;
    story.push('opened');
  });
  const second = crossing.pass(async () => story.push('second passed'));
  first.finish();
  await passing;
  held.finish();
  await Promise.all([holding, second]);
  expect(story).toEqual(['first passed', 'held, still: true', 'opened', 'second passed']);
});

it('gives up after its time limit, and reports it', async () => {
  const crossing = new Crossing();
  const slow = later();
  const passing = crossing.pass(() => slow.done);
  expect(await crossing.hold(1, async (isStill) => isStill)).toBe(false);
  slow.finish();
  await passing;
  expect(await crossing.hold(1, async (isStill) => isStill)).toBe(true);
});

it('reopens after a failure', async () => {
  const crossing = new Crossing();
  await expect(crossing.hold(1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await expect(crossing.pass(() => Promise.reject(new Error('never')))).rejects.toThrow('never');
  expect(await crossing.hold(1, async (isStill) => isStill)).toBe(true);
});
