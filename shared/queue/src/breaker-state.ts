import { numberField } from './number-field.ts';
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
      if (numberField(hash[`at:${i}`]) > present - 10) all += numberField(hash[`${prefix}${i}`]);
    }
    return all;
  };
  const state = BREAKER_STATES.find((known) => known === hash.state) ?? 'closed';
  return {
    state,
    reason: hash.reason ?? '',
    sinceMs: numberField(hash.since),
    retryAtMs: state === 'open' ? numberField(hash.retry_at) : 0,
    failures: numberField(hash.failures),
    openedTotal: numberField(hash.opened_total),
    openedByReason: Object.fromEntries(
      BREAKER_REASONS.map((reason) => [reason, numberField(hash[`opened_total:${reason}`])]),
    ) as Breaker['openedByReason'],
    halfOpenedTotal: numberField(hash.half_opened_total),
    closedTotal: numberField(hash.closed_total),
    throttledShare: sum('q:') / Math.max(1, sum('n:')),
  };
}

/** The options as the scripts take them. */
export function breakerArgs(options: BreakerOptions): number[] {
  const { failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs } = options;
  return [failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs];
}
