/** Targets with the faults that fuzzing is to find. */
import type { Target } from './targets.ts';

function sick(name: string, take: Target['take']): Target {
  return { name, corpus: async () => [Buffer.from('sick')], take, known: () => false };
}

export const TARGETS: readonly Target[] = [
  sick('loops', () => {
    for (;;);
  }),
  sick('waits', () => new Promise(() => setInterval(() => {}, 1_000))),
  sick('throws', () => {
    throw new TypeError('not its own kind');
  }),
  sick('ends', () => process.exit(3)),
  sick('fills the heap', () => {
    const kept: number[][] = [];
    while (true) kept.push(new Array(1_000_000).fill(1.5));
  }),
];
