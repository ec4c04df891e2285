/** When to try again. Times in ms. */
export interface RetryPolicy {
  initialMs: number;
  maxMs: number;
  multiplier: number;
  /** Share of the delay that is random, 0 to 1. */
  jitter: number;
  /** Tries in all before the batch goes to the dlq. */
  maxAttempts: number;
  /** An upstream that asks for more than this is taken at this. */
  maxRetryAfterMs: number;
}

/**
 * Exponential backoff with jitter; never earlier than the upstream asked for.
 * @param attempts tries made so far, at least 1
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
  // Everybody was asked for the same moment: spread the return over another tenth.
  return Math.max(backoffMs, askedMs * (1 + 0.1 * random));
}
