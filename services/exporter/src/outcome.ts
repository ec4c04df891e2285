/**
 * What an answer of the upstream means, after OTLP/HTTP 1.11 ("Failures", "OTLP/HTTP Throttling").
 * A partial success is a success: the specification forbids retrying it.
 */
export type Outcome =
  | { kind: 'delivered'; refusedItems: number; message: string }
  | { kind: 'retry'; reason: RetryReason; status?: number; retryAfterMs?: number; message: string }
  | { kind: 'too-large'; status: number; message: string }
  | { kind: 'rejected'; reason: string; status: number; message: string };

export type RetryReason = 'throttled' | 'unavailable' | 'auth' | 'connection' | 'timeout';

/**
 * What the breaker makes of an outcome. A refusal for good or a body too large says that the upstream works; 429 is a
 * quota, told apart from a failure.
 */
export function verdictOf(outcome: Outcome): 'ok' | 'failure' | 'quota' | 'auth' {
  if (outcome.kind !== 'retry') return 'ok';
  if (outcome.reason === 'throttled') return 'quota';
  return outcome.reason === 'auth' ? 'auth' : 'failure';
}

/** The parts of an answer that decide. `message` is what the body said, shortened. */
export interface Answer {
  status: number;
  retryAfter: string | undefined;
  refusedItems: number;
  message: string;
}

/** One switch from status to outcome. */
export function outcomeOf(answer: Answer, nowMs: number): Outcome {
  const { status, message } = answer;
  const retryAfterMs = parseRetryAfter(answer.retryAfter, nowMs);
  const again = (reason: RetryReason): Outcome => ({
    kind: 'retry',
    reason,
    status,
    message,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
  if (status >= 200 && status < 300) return { kind: 'delivered', refusedItems: answer.refusedItems, message };
  switch (status) {
    case 429:
      return again('throttled');
    case 502:
    case 503:
    case 504:
      return again('unavailable');
    case 401:
    case 403:
      // A key that is wrong or expired says nothing about the data: keep it until somebody mends the key.
      return again('auth');
    case 413:
      return { kind: 'too-large', status, message };
    default:
      return { kind: 'rejected', reason: `status_${status}`, status, message };
  }
}

/**
 * Parses Retry-After: seconds, or an HTTP-date (RFC 9110, 10.2.3).
 * @returns ms from now, never negative; undefined when absent or malformed
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1000;
  // Date.parse alone would take nearly anything for a date.
  const date = /^[A-Z][a-z]{2,8},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
