/** What a run measures, and what it leaves out. */
import { expect, test } from 'vitest';
import { GROWTH } from './growth/growth.ts';
import { plan, SUITE_NAMES, secondsOf, type Wish } from './plan.ts';
import type { GrowthPoint, Results } from './results.ts';
import { HEADLINE, MEMORY, ONE, ROTEL, ROTEL_BATCHING, SERVICES, SMALL, SPANS } from './suites.ts';
import type { System } from './system.ts';

const system = (name: string, durability: System['durability'], signals?: string[]): System => ({
  name,
  durability,
  ...(signals ? { signals } : {}),
  start: () => Promise.reject(new Error('nothing is started here')),
});
const SYSTEMS = [
  system(ONE, 'fsynced'),
  system(SERVICES, 'fsynced'),
  system(ROTEL, 'in memory'),
  system(ROTEL_BATCHING, 'in memory'),
  system(MEMORY, 'in memory'),
  system('Collector, file_storage', 'written'),
  system('Collector, file_storage, fsync', 'fsynced'),
  system('Collector, memory queue, batch processor', 'in memory'),
  system('Collector, file_storage, batch processor', 'in memory'),
  system('vmagent, remote write out', 'in memory', ['metrics']),
];
const WISH: Wish = {
  ...{ headline: false, long: false, suites: SUITE_NAMES, systems: /./, cases: /./, repetitions: 5 },
  ...{ timing: { warmUpMs: 3_000, measureMs: 10_000 }, cut: false, attempts: 3, heatMs: 3_000 },
};
const none: Results = { machine: {} as Results['machine'], notes: [], loads: [], growth: [] };
const point = (growth: string, x: number): GrowthPoint => ({
  ...{ growth, x, repetition: 1, commit: '', others: 0, values: {} },
});
const minutes = (wish: Wish) =>
  plan(wish, SYSTEMS, none).reduce((sum, step) => sum + secondsOf(step, wish), 0) / 60;

test('a curve that was cut short is measured anew, a whole one is left out', () => {
  const { points, long } = GROWTH.backlog!;
  const wish = { ...WISH, suites: ['growth'], cases: new RegExp(GROWTH.backlog!.title) };
  const kept = (xs: readonly number[]) => ({ ...none, growth: xs.map((x) => point('backlog', x)) });
  const whole = { kind: 'growth', growth: 'backlog', repetition: 1, points };
  expect(plan(wish, SYSTEMS, kept(points.slice(1)))).toEqual([whole]);
  expect(plan(wish, SYSTEMS, kept(points))).toEqual([]);
  const further = [...points, ...long!.points];
  expect(plan({ ...wish, long: true }, SYSTEMS, kept(points))).toEqual([{ ...whole, points: further }]);
});

test('the main cases run on those that answer from memory too, and a batch processor has one queue', () => {
  const of = (name: string) =>
    plan(WISH, SYSTEMS, none).flatMap((step) =>
      step.kind === 'load' && step.repetition === 1 && step.cases.some((one) => one.name === name)
        ? [step.system.name]
        : [],
    );
  for (const name of [HEADLINE, SPANS, SMALL])
    expect(of(name)).toEqual(expect.arrayContaining([ONE, MEMORY, ROTEL, ROTEL_BATCHING]));
  expect(of(HEADLINE).filter((name) => name.includes('batch processor'))).toEqual([
    'Collector, memory queue, batch processor',
  ]);
});

test('a whole run is done in three quarters of an hour, the headline in five minutes', () => {
  expect(minutes(WISH)).toBeLessThanOrEqual(45);
  const timing = { warmUpMs: 1_000, measureMs: 4_000 };
  const suites = ['budget', 'ceiling'];
  expect(
    minutes({ ...WISH, ...{ headline: true, suites, repetitions: 2, timing, cut: true, heatMs: 2_000 } }),
  ).toBeLessThanOrEqual(5);
});
