import { STATUS_CODES } from 'node:http';
import type { Verdict } from '@nrdot/queue';

/**
 * What an answer of the upstream means: `MEANINGS` is the table of docs/upstream.md, and a test compares the two.
 *
 * Answers differ in what they are about. About *this data*: it is rejected, down to the single bad item. About the *place*
 * (path, key, proxy, vendor's edge): no batch is at fault, so all are kept and sending pauses. About the *server*: the request
 * is retried, and sending pauses after many such answers.
 */
export type Outcome =
  | { kind: 'delivered'; refusedItems: number; message: string }
  | ({ kind: 'retry'; reason: RetryReason; status?: number } & Told)
  | ({ kind: 'hold'; reason: HoldReason; status: number } & Told)
  | { kind: 'too-large'; status: number; message: string }
  | { kind: 'rejected'; reason: string; status: number; message: string };

interface Told {
  message: string;
  retryAfterMs?: number;
  /** The proxy, if the answer is its own. */
  proxy?: string;
}

export type RetryReason = 'throttled' | 'unavailable' | 'server_error' | 'connection' | 'timeout';
export type HoldReason = 'auth' | 'place';

export interface Meaning {
  /** The answers, as worded in the docs. */
  answers: string;
  /** The statuses of this row; absent for rows without one. */
  statuses?: (status: number) => boolean;
  fate: Outcome['kind'];
  reason?: RetryReason | HoldReason;
  /** For the docs, the rest: what the breaker counts at the first attempt (`verdictOf` decides), what happens, what people read. */
  hears: Verdict;
  becomes: string;
  reads: string;
}

const among =
  (...known: number[]) =>
  (status: number) =>
    known.includes(status);

/** An answer about the key or the place, at which everything is kept. */
function held({
  reason = 'place',
  ...row
}: Pick<Meaning, 'answers' | 'statuses' | 'reads'> & { reason?: HoldReason }): Meaning {
  return { ...row, fate: 'hold', reason, hears: reason, becomes: 'kept; sending pauses' };
}

/** A 2xx that is no OTLP answer; its status alone does not tell. */
export const NO_OTLP = held({
  answers: '2xx with a body that is not an OTLP response, such as `text/html`',
  reads: 'a login page or a wrong address answers instead of the upstream',
});

/** The first matching row applies; the last one matches everything. */
export const MEANINGS: readonly Meaning[] = [
  {
    answers: '2xx, with an OTLP response or without a body',
    statuses: (status) => status >= 200 && status < 300,
    fate: 'delivered',
    hears: 'ok',
    becomes:
      'delivered, whatever the size of the response; items of a partial success are counted as `partial_success` and not sent again',
    reads: 'a warning if part of it was rejected',
  },
  {
    answers: '400, 409, 422',
    statuses: among(400, 409, 422),
    fate: 'rejected',
    hears: 'ok',
    becomes: 'split until the bad item is isolated; it is rejected with the reason, the others are sent',
    reads: "`nrdot dlq ls --rejected` shows the upstream's message",
  },
  {
    answers: '413',
    statuses: among(413),
    fate: 'too-large',
    hears: 'ok',
    becomes: 'sent in smaller pieces; a single item is rejected as `too_large`',
    reads: '`nrdot dlq ls --rejected`, for a single item',
  },
  held({
    answers: '401, 402, 403, 511',
    statuses: among(401, 402, 403, 511),
    reason: 'auth',
    reads: "that the key is refused, with the upstream's message",
  }),
  held({
    answers: '407, and responses below 500 from a proxy instead of a tunnel',
    statuses: among(407),
    reads: 'the proxy and its response; set user and password in `exporter.proxy`',
  }),
  {
    answers: '408, 425, 502, 503, 504, and what `exporter.retry_on` adds',
    statuses: among(408, 425, 502, 503, 504),
    fate: 'retry',
    reason: 'unavailable',
    hears: 'failure',
    becomes: 'retried; spilled to disk after the last attempt',
    reads: 'the upstream fails, after `breaker.failures` consecutive ones',
  },
  {
    answers: '429',
    statuses: among(429),
    fate: 'retry',
    reason: 'throttled',
    hears: 'quota',
    becomes: 'retried; spilled to disk after the last attempt',
    reads: 'that the upstream throttles, once `breaker.throttle_ratio` of the responses do so',
  },
  {
    answers: '307, 308',
    statuses: among(307, 308),
    fate: 'hold',
    reason: 'place',
    hears: 'place',
    becomes: 'followed, at most five times; if that fails, kept, and sending pauses',
    reads: 'the target',
  },
  held({
    answers: 'other 3xx',
    statuses: (status) => status < 400,
    reads: 'the new address, to set as `exporter.endpoint`',
  }),
  held({
    answers: 'other 4xx, such as 404 and 405',
    statuses: (status) => status < 500,
    reads: 'the address and its response',
  }),
  held({
    answers: '501, 505, 506, 508, 510, 52x, 530',
    statuses: (status) => among(501, 505, 506, 508, 510, 530)(status) || (status >= 520 && status < 530),
    reads: 'the address and its response',
  }),
  {
    answers: '500 and other 5xx',
    statuses: () => true,
    fate: 'retry',
    reason: 'server_error',
    hears: 'fault',
    becomes:
      'retried; spilled to disk after the last attempt; rejected as `poison` if its replays fail while others are delivered',
    reads: 'the upstream fails, after `breaker.failures` consecutive batches',
  },
];

const RETRIED_ON = MEANINGS.find(({ reason }) => reason === 'unavailable')!;
/** A proxy has seen neither data nor key, so its answers cannot be about them. */
const NO_WAY = MEANINGS.find(({ statuses }) => statuses?.(407))!;

/** How the breaker counts an outcome. @param attempts the first included */
export function verdictOf(outcome: Outcome, attempts: number): Verdict {
  switch (outcome.kind) {
    case 'retry':
      if (outcome.reason === 'throttled') return 'quota';
      if (outcome.reason !== 'server_error') return 'failure';
      return attempts === 1 ? 'fault' : 'again';
    case 'hold':
      return outcome.reason;
    default:
      return 'ok'; // a refusal of data says that the upstream works
  }
}

/** What an outcome is derived from. */
export interface Answer {
  status: number;
  /** Whether the body may be an OTLP answer, by `isOtlpAnswer`. */
  otlp: boolean;
  contentType: string;
  retryAfter: string | undefined;
  refusedItems: number;
  /** The body's message, shortened; empty if there is none. */
  message: string;
  /** Target of a redirect. */
  location?: string | undefined;
  /** The address that answered, without secrets. */
  url: string;
  /** The proxy, if it answered instead of forwarding the request. */
  proxy?: string;
}

/** The row that applies to an answer. */
function meaningOf({ status, otlp, proxy }: Answer, retryOn: readonly number[]): Meaning {
  if (retryOn.includes(status)) return RETRIED_ON;
  if (proxy !== undefined && status < 500) return NO_WAY;
  const meaning = MEANINGS.find(({ statuses }) => statuses?.(status))!;
  return meaning.fate === 'delivered' && !otlp ? NO_OTLP : meaning;
}

/** @param retryOn statuses that are always retried */
export function outcomeOf(answer: Answer, nowMs: number, retryOn: readonly number[] = []): Outcome {
  const { status, refusedItems, proxy } = answer;
  const { fate, reason } = meaningOf(answer, retryOn);
  const retryAfterMs = parseRetryAfter(answer.retryAfter, nowMs);
  const more = {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(proxy === undefined ? {} : { proxy }),
  };
  switch (fate) {
    case 'delivered':
      return { kind: 'delivered', refusedItems, message: answer.message };
    case 'retry':
      return { kind: 'retry', reason: reason as RetryReason, status, message: failedBy(answer), ...more };
    case 'hold':
      return { kind: 'hold', reason: reason as HoldReason, status, message: heldBy(answer), ...more };
    case 'too-large':
      return { kind: 'too-large', status, message: saidBy(answer) };
    case 'rejected':
      return { kind: 'rejected', reason: `status_${status}`, status, message: saidBy(answer) };
  }
}

function named({ status }: Answer): string {
  const name = STATUS_CODES[status];
  return name ? `${status} ${name}` : `${status}`;
}

function saidBy(answer: Answer): string {
  const { message, proxy } = answer;
  const who = proxy === undefined ? 'the upstream' : `the proxy ${proxy}`;
  return message || `${who} answered ${named(answer)} without further details`;
}

/** The status belongs into the message even if the body explains the failure. */
function failedBy(answer: Answer): string {
  const { message, proxy } = answer;
  return proxy === undefined && message ? told(answer) : saidBy(answer);
}

/** Names the address, because whoever has to fix it needs to know which one it is. */
function heldBy(answer: Answer): string {
  const { location, url, proxy } = answer;
  if (proxy !== undefined) return `the proxy ${proxy} answered ${named(answer)}`;
  if (location !== undefined) return `${url} answered ${named(answer)}: it has moved to ${location}`;
  if (answer.status < 300)
    return `${url} answered ${named(answer)} with ${answer.contentType || 'a body'}, which is not an OTLP response`;
  return `${url} answered ${told(answer)}`;
}

/** Status and message. */
function told(answer: Answer): string {
  const { status, message } = answer;
  return message && message !== STATUS_CODES[status] ? `${named(answer)}: ${message}` : named(answer);
}

/**
 * Whether the body of a 2xx may be an OTLP answer. Servers leave the body out, or the content type; an HTML page has a type of
 * its own, or begins with a tag.
 */
export function isOtlpAnswer(contentType: string, body: Uint8Array, bodyBytes = body.byteLength): boolean {
  if (bodyBytes === 0) return true;
  if (contentType !== '') return /protobuf|json|octet-stream/i.test(contentType);
  return !/^\s*</.test(Buffer.from(body.subarray(0, 64)).toString('latin1'));
}

/**
 * Parses Retry-After: seconds, or an HTTP-date (RFC 9110, 10.2.3).
 * @returns ms from now, never negative; undefined if absent or malformed
 */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,10}$/.test(text)) return Number(text) * 1000;
  // Date.parse alone accepts almost anything.
  const date = /^[A-Z][a-z]{2,8},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

const REDIRECTS_MAX = 5;

/** The next address of a request, and whether its secrets may be sent there. */
export interface Hop {
  url: URL;
  withSecrets: boolean;
}

/**
 * Follows a redirect that keeps method and body (307, 308). Secrets are sent to no other host and not without TLS.
 * @param hops number of redirects followed before
 * @returns undefined if it must not be followed
 */
export function nextHop(
  status: number,
  location: string | undefined,
  from: Hop,
  hops: number,
): Hop | undefined {
  if ((status !== 307 && status !== 308) || location === undefined || hops >= REDIRECTS_MAX) return undefined;
  const url = URL.parse(location, from.url.href);
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') return undefined;
  const safe =
    url.hostname === from.url.hostname && (url.protocol === 'https:' || from.url.protocol === 'http:');
  return { url, withSecrets: from.withSecrets && safe };
}
