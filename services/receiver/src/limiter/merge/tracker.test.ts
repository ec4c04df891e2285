import { expect, it } from 'vitest';
import { FLAGS, LIVE } from './stream-words.ts';
import { Tracker } from './tracker.ts';

it('counts requests anew before their number exceeds an int32, but not while one is open', () => {
  const limits = { maxSources: 8, maxLedger: 8, maxOutputs: 8, arenaCells: 64, renumberAt: 3 };
  const tracker = new Tracker(limits, undefined as never, undefined as never);
  const { sources } = tracker;
  const change = () => {
    const mark = tracker.begin();
    expect(sources.remember(source)).toBe(true);
    expect(sources.remember(source)).toBe(false);
    return mark;
  };
  const keep = (mark: ReturnType<typeof change>, end = tracker.mark()) =>
    tracker.keep(mark, end, Buffer.alloc(0));
  const source = sources.insert(1, 2);
  sources.words[source + FLAGS] = LIVE;
  const numbers = Array.from({ length: 7 }, () => {
    const mark = change();
    keep(mark);
    return mark.request;
  });
  expect(numbers).toEqual([1, 2, 3, 1, 2, 3, 1]);
  const [first, second, third, fourth] = [change(), change(), change(), change()];
  expect([first, second, third, fourth].map(({ request }) => request)).toEqual([2, 3, 4, 5]);
  keep(first!, second);
  tracker.undo(second!);
  expect(change().request).toBe(1);
});
