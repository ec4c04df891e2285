import type { BreakerOptions } from './store-options.ts';

export const BREAKER_STATES = ['closed', 'open', 'half_open'] as const;
export type BreakerState = (typeof BREAKER_STATES)[number];
/** Why it opens: failures in a row, answers of 429, a key that is refused. */
export const BREAKER_REASONS = ['failures', 'quota', 'auth'] as const;

/** The breaker as `redis-cli HGETALL <prefix>:breaker` shows it. Times: Unix ms. */
export interface Breaker {
  state: BreakerState;
  reason: string;
  sinceMs: number;
  retryAtMs: number;
  failures: number;
  openedTotal: number;
  /** The same by reason. */
  openedByReason: Record<(typeof BREAKER_REASONS)[number], number>;
  halfOpenedTotal: number;
  closedTotal: number;
  /** Share of 429 among the answers in the window, 0 to 1. */
  throttledShare: number;
}

/** Reads the breaker's hash; its window is looked at as of now. */
export function breakerOf(hash: Record<string, string>, windowMs: number, nowMs: number): Breaker {
  // Tenths of the window that nobody has answered in since stay in the hash; they are not of this window.
  const present = Math.floor(nowMs / (windowMs / 10));
  const sum = (prefix: string) => {
    let all = 0;
    for (let i = 0; i < 10; i++) {
      if (Number(hash[`at:${i}`] ?? 0) > present - 10) all += Number(hash[`${prefix}${i}`] ?? 0);
    }
    return all;
  };
  const state = BREAKER_STATES.find((known) => known === hash.state) ?? 'closed';
  return {
    state,
    reason: hash.reason ?? '',
    sinceMs: Number(hash.since ?? 0),
    retryAtMs: state === 'open' ? Number(hash.retry_at ?? 0) : 0,
    failures: Number(hash.failures ?? 0),
    openedTotal: Number(hash.opened_total ?? 0),
    openedByReason: Object.fromEntries(
      BREAKER_REASONS.map((reason) => [reason, Number(hash[`opened_total:${reason}`] ?? 0)]),
    ) as Breaker['openedByReason'],
    halfOpenedTotal: Number(hash.half_opened_total ?? 0),
    closedTotal: Number(hash.closed_total ?? 0),
    throttledShare: sum('q:') / Math.max(1, sum('n:')),
  };
}

/** The options as the scripts take them. */
export function breakerArgs(options: BreakerOptions): number[] {
  const { failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs } = options;
  return [failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs];
}
