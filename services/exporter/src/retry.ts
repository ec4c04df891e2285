/** When to retry. Times in ms. */
export interface RetryPolicy {
  initialMs: number;
  maxMs: number;
  multiplier: number;
  /** Random share of the delay, 0 to 1. */
  jitter: number;
  /** Maximum attempts, the first included, before a batch is spilled. */
  maxAttempts: number;
  /** Upper bound for the upstream's Retry-After. */
  maxRetryAfterMs: number;
}

/**
 * Exponential backoff with jitter; never earlier than the upstream's Retry-After.
 * @param attempts attempts so far, at least 1
 * @param random in [0, 1)
 */
export function retryDelayMs(
  policy: RetryPolicy,
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
