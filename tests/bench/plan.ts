/** What a run will measure, in which order, and about how long that takes. */
import { GROWTH, pointsOf } from './growth/growth.ts';
import type { Timing } from './measure.ts';
import type { Results } from './results.ts';
import { type LoadCase, SUITES } from './suites.ts';
import type { System } from './system.ts';

/** Cases of a suite on one system, in one go: it is started once for them. */
export interface LoadStep {
  kind: 'load';
  suite: string;
  system: System;
  cases: LoadCase[];
  repetition: number;
}

export interface GrowthStep {
  kind: 'growth';
  growth: string;
  points: readonly number[];
  repetition: number;
}

export interface ProfileStep {
  kind: 'profile';
}

export type Step = LoadStep | GrowthStep | ProfileStep;

export const SUITE_NAMES = [...Object.keys(SUITES), 'growth', 'profile'];

export interface Wish {
  /** Only the cases and systems that make the headline. */
  headline: boolean;
  /** Growth to where it takes minutes. */
  long: boolean;
  suites: readonly string[];
  systems: RegExp;
  cases: RegExp;
  repetitions: number;
  timing: Timing;
  /** Whether cases with times of their own are cut to that. */
  cut: boolean;
  /** How often a measurement is taken at most, where others disturb it. */
  attempts: number;
  /** So long a freshly started system is loaded in a closed loop of two connections, before its first case. */
  heatMs: number;
}

/** A curve has several points: they stand for repetitions. */
const GROWTH_REPETITIONS = 1;
/** Starting and ending a system, making bodies, waiting for what is in flight: seconds, as measured. */
const START_S = 3;
const CASE_S = 2;
/** Looking for what others take, before and after. */
const LOOK_S = 1;

/** Systems take turns within each repetition, another one first each time. What `kept` has is left out. */
export function plan(wish: Wish, systems: readonly System[], kept: Results): Step[] {
  const steps: Step[] = [];
  for (let repetition = 1; repetition <= wish.repetitions; repetition++) {
    for (const suite of wish.suites) {
      for (const system of turned(systems, repetition)) {
        const cases = (SUITES[suite]?.cases ?? []).filter(
          (one) =>
            (wish.headline ? one.headline?.includes(system.name) : one.systems(system)) &&
            repetition <= (one.repetitions ?? Number.POSITIVE_INFINITY) &&
            wish.systems.test(system.name) &&
            wish.cases.test(one.name) &&
            !kept.loads.some(
              (r) =>
                r.suite === suite &&
                r.system === system.name &&
                r.case === one.name &&
                r.repetition === repetition,
            ),
        );
        if (cases.length > 0) steps.push({ kind: 'load', suite, system, cases, repetition });
      }
    }
    if (!wish.suites.includes('growth') || repetition > GROWTH_REPETITIONS) continue;
    for (const [growth, what] of Object.entries(GROWTH)) {
      const points = pointsOf(what, wish.long);
      // A curve is of one run: one that was cut short begins anew.
      const done = points.every((x) =>
        kept.growth.some((one) => one.growth === growth && one.x === x && one.repetition === repetition),
      );
      if (!done && wish.cases.test(what.title)) steps.push({ kind: 'growth', growth, points, repetition });
    }
  }
  if (wish.suites.includes('profile') && !kept.profile) steps.push({ kind: 'profile' });
  return steps;
}

/** About how long a step takes, in seconds. */
export function secondsOf(step: Step, wish: Wish): number {
  if (step.kind === 'growth') {
    const { seconds, long } = GROWTH[step.growth]!;
    return seconds + (wish.long ? (long?.seconds ?? 0) : 0);
  }
  const whole = ({ warmUpMs, measureMs }: Timing) => (warmUpMs + measureMs) / 1000;
  if (step.kind === 'profile') return START_S + 2 * CASE_S + whole(wish.timing);
  return step.cases.reduce(
    (sum, one) => sum + CASE_S + LOOK_S + whole(timingOf(one, wish)),
    START_S + wish.heatMs / 1000,
  );
}

/** Another one goes first in each repetition, so that no place in the order favours anybody. */
function turned<T>(list: readonly T[], by: number): T[] {
  const at = by % Math.max(1, list.length);
  return [...list.slice(at), ...list.slice(0, at)];
}

export function timingOf(one: LoadCase, wish: Wish): Timing {
  const { seconds } = one;
  const { timing, cut } = wish;
  if (!seconds) return timing;
  const least = (own: number, wished: number) => (cut ? Math.min(own, wished) : own);
  return {
    warmUpMs: least(seconds.warmUp * 1000, timing.warmUpMs),
    measureMs: least(seconds.measured * 1000, timing.measureMs),
  };
}

/** The plan as text, with minutes by suite. */
export function describe(steps: readonly Step[], wish: Wish): string {
  const nameOf = (step: Step) => (step.kind === 'load' ? step.suite : step.kind);
  const minutes = (list: readonly Step[]) =>
    (list.reduce((sum, step) => sum + secondsOf(step, wish), 0) / 60).toFixed(1);
  const lines = [...Map.groupBy(steps, nameOf)].map(([suite, list]) => {
    const measured = list.reduce((sum, step) => sum + (step.kind === 'load' ? step.cases.length : 1), 0);
    return `  ${suite.padEnd(10)} ${minutes(list).padStart(5)} min  ${measured} measurements, ${list.length} starts`;
  });
  return [`about ${minutes(steps)} minutes:`, ...lines].join('\n');
}
