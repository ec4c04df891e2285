import { expect, it } from 'vitest';
import type { Around } from '../blocks.ts';
import { Plan } from './plan.ts';
import type { OutputStream } from './stream.ts';

it('groups the streams of a metric by the resource that they are sent with, which may change within a request', () => {
  const message = { tagStart: 0, start: 0, end: 0, lo: 7, hi: 7, node: undefined };
  const plan = new Plan({ resource: message, scope: message, metric: { ...message } } as unknown as Around);
  const stream = (name: string) => ({ name, reduction: {}, asDelta: true }) as unknown as OutputStream;
  for (const [name, lo, hi] of [
    ['a', 1, 1],
    ['b', 1, 1],
    ['c', 2, 1],
    ['d', 2, 2],
    ['e', 1, 1],
  ] as const)
    plan.group(stream(name), { lo, hi });
  const names = [...plan.groups.values()].map(({ scopes }) =>
    [...scopes.values()].flatMap(({ metrics }) =>
      [...metrics.values()].flatMap(({ streams }) =>
        streams.map((each) => (each as unknown as { name: string }).name),
      ),
    ),
  );
  expect(names).toEqual([['a', 'b', 'e'], ['c'], ['d']]);
});
