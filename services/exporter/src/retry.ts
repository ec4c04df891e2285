import type { Config } from '@nrdot/config';

/**
 * Exponential backoff with jitter; never earlier than the upstream's Retry-After.
 * @param attempts attempts so far, at least 1
 * @param random in [0, 1)
 */
export function retryDelayMs(
  policy: Config['exporter']['retry'],
  attempts: number,
  retryAfterMs: number | undefined,
  random: number,
): number {
  const full = Math.min(policy.maxMs, policy.initialMs * policy.multiplier ** Math.min(attempts - 1, 64));
  const backoffMs = full * (1 - policy.jitter * random);
  const askedMs = retryAfterMs === undefined ? 0 : Math.min(retryAfterMs, policy.maxRetryAfterMs);
  // All requests got the same Retry-After: spread their retries over another tenth of it.
  return Math.max(backoffMs, askedMs * (1 + 0.1 * random));
}
