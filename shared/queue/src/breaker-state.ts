import type { Config } from '@nrdot/config';
import type { Signal } from '@nrdot/otlp';
import { numberField } from './number-field.ts';

export const BREAKER_STATES = ['closed', 'open', 'half_open'] as const;
export type BreakerState = (typeof BREAKER_STATES)[number];
/** Why it opened: consecutive failures, too many 429s, a rejected key, or an address that is (now) no upstream. */
export const BREAKER_REASONS = ['failures', 'quota', 'auth', 'place'] as const;
export const MESSAGE_MAX = 200;
/**
 * One answer of the upstream, as the breaker counts it. `ok`: it works. `fault`: caused by the upstream or by this batch, which
 * got it for the first time; when the same batch gets it `again`, it counts for a probe only. `auth` and `place` open the
 * breaker at once.
 */
export type Verdict = 'ok' | 'failure' | 'fault' | 'again' | 'quota' | 'auth' | 'place';

/** The breaker of a signal as `redis-cli HGETALL <prefix>:breaker:<signal>` shows it. Times: Unix ms. */
export interface Breaker {
  signal: Signal;
  state: BreakerState;
  reason: string;
  /** The upstream's message when the breaker last opened. */
  said: string;
  sinceMs: number;
  retryAtMs: number;
  failures: number;
  openedTotal: number;
  openedByReason: Record<(typeof BREAKER_REASONS)[number], number>;
  halfOpenedTotal: number;
  closedTotal: number;
  okTotal: number;
  /** Share of 429 among the answers in the window, 0 to 1. */
  throttledShare: number;
}

/** Parses the breaker's hash. Its window ends at `nowMs`. */
export function breakerOf(
  signal: Signal,
  hash: Record<string, string>,
  windowMs: number,
  nowMs: number,
): Breaker {
  // Tenths of the window without an answer keep their old counts in the hash: skip those that are out of date.
  const present = Math.floor(nowMs / (windowMs / 10));
  const n = (field: string) => numberField(hash[field]);
  const slots = Array.from({ length: 10 }, (_, i) => i).filter((i) => n(`at:${i}`) > present - 10);
  const sum = (prefix: string) => slots.reduce((all, i) => all + n(`${prefix}${i}`), 0);
  const state = BREAKER_STATES.find((known) => known === hash.state) ?? 'closed';
  const byReason = BREAKER_REASONS.map((reason) => [reason, n(`opened_total:${reason}`)]);
  return {
    signal,
    state,
    reason: hash.reason ?? '',
    said: hash.said ?? '',
    sinceMs: n('since'),
    retryAtMs: state === 'open' ? n('retry_at') : 0,
    failures: n('failures'),
    openedTotal: n('opened_total'),
    openedByReason: Object.fromEntries(byReason) as Breaker['openedByReason'],
    halfOpenedTotal: n('half_opened_total'),
    closedTotal: n('closed_total'),
    okTotal: n('ok_total'),
    throttledShare: sum('q:') / Math.max(1, sum('n:')),
  };
}

/** Open before half-open before closed; among equals, the one that changed last. */
export function worstOf(breakers: readonly Breaker[]): Breaker {
  const rank = ({ state }: Breaker) => ['closed', 'half_open', 'open'].indexOf(state);
  return breakers.reduce((worst, each) =>
    rank(each) > rank(worst) || (rank(each) === rank(worst) && each.sinceMs > worst.sinceMs) ? each : worst,
  );
}

/**
 * The breakers that hold batches back.
 * @returns with `all`, whether these are the breakers of all signals that were ever sent: then nothing is sent
 */
export function heldOf(breakers: readonly Breaker[]): { held: Breaker[]; all: boolean } {
  const held = breakers.filter(({ state }) => state !== 'closed');
  const going = breakers.some(({ state, okTotal }) => state === 'closed' && okTotal > 0);
  return { held, all: held.length > 0 && !going };
}

export function breakerArgs(options: Config['breaker']): number[] {
  const { failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs } = options;
  return [failures, throttleRatio, minAnswers, windowMs, minOpenMs, maxOpenMs];
}
