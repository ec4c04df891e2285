import { asBuffer, decodeContent, SIGNALS, type Signal } from '@nrdot/otlp';
import { type Batch, CLASSES, type PriorityClass } from '@nrdot/queue';
import { AdminError, type AdminServer } from '@nrdot/service';
import { type SampledItem, sampleOf } from './sample.ts';

/** A line of `GET /api/tap`: an item, or at the end a summary. */
export type TapLine = TappedItem | TapEnd;

export interface TappedItem extends SampledItem {
  /** Time of receipt, Unix ms. */
  at: number;
  signal: Signal;
  class: PriorityClass;
}

export interface TapEnd {
  end: 'limit' | 'time' | 'stopped';
  items: number;
  /** Batches of this class and signal that passed, and how many of them were sampled. */
  batches: number;
  sampled: number;
}

/** What to show. */
export interface TapWish {
  signal: Signal | undefined;
  class: PriorityClass | undefined;
  service: string | undefined;
  /** Maximum number of items. */
  limit: number;
  seconds: number;
}

const LIMIT = { usual: 20, most: 1_000 };
const SECONDS = { usual: 30, most: 300 };
/** Limits on sessions, and on what each may queue and decode: memory and time stay bounded, whatever flows. */
const SESSIONS_MAX = 4;
const PENDING_MAX = 2;
const BATCH_MAX_BYTES = 1024 * 1024;
const DECODED_MAX_BYTES = 2 * BATCH_MAX_BYTES;
/** Finding the first few of a million empty items takes 0.3 s. */
const BATCH_MAX_ITEMS = 16_384;
const BATCH_EVERY_MS = 50;
const ITEMS_PER_BATCH = 5;

/**
 * Shows people a sample of acknowledged batches. Without a session it costs one check of a flag per request; with one, a few
 * items of at most twenty batches per second. Batches that are not read in time are skipped.
 */
export class Tap {
  readonly #sessions = new Set<TapSession>();

  /** Whether there is a session. */
  get open(): boolean {
    return this.#sessions.size > 0;
  }

  /** Offers a batch to the sessions; its payload is read later and must not change. */
  offer(batch: Batch): void {
    for (const session of this.#sessions) session.offer(batch);
  }

  /** @throws AdminError at the maximum number of sessions */
  begin(wish: TapWish): TapSession {
    if (this.#sessions.size >= SESSIONS_MAX) {
      throw new AdminError(429, 'too_many_taps', `${SESSIONS_MAX} taps are already open; close one of them`);
    }
    const session = new TapSession(wish, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    return session;
  }

  /** Ends all sessions. */
  stop(): void {
    for (const session of this.#sessions) session.end('stopped');
  }
}

/** The lines of one session, until its items or time are used up or its reader disconnects. */
export class TapSession implements AsyncIterableIterator<string> {
  readonly #wish: TapWish;
  readonly #left: () => void;
  readonly #timer: NodeJS.Timeout;
  readonly #pending: Batch[] = [];
  readonly #lines: string[] = [];
  #wake: (() => void) | undefined;
  #ended: TapEnd['end'] | undefined;
  #takenAt = Number.NEGATIVE_INFINITY;
  #items = 0;
  #batches = 0;
  #sampled = 0;

  constructor(wish: TapWish, left: () => void) {
    this.#wish = wish;
    this.#left = left;
    this.#timer = setTimeout(() => this.end('time'), wish.seconds * 1_000);
    this.#timer.unref();
  }

  offer(batch: Batch): void {
    const { signal, class: wanted } = this.#wish;
    if (signal !== undefined && signal !== batch.signal) return;
    if (wanted !== undefined && wanted !== batch.class) return;
    this.#batches++;
    const now = performance.now();
    if (batch.payload.byteLength > BATCH_MAX_BYTES || batch.items > BATCH_MAX_ITEMS) return;
    if (this.#pending.length >= PENDING_MAX) return;
    if (now - this.#takenAt < BATCH_EVERY_MS) return;
    this.#takenAt = now;
    this.#pending.push(batch);
    this.#wake?.();
  }

  end(reason: TapEnd['end']): void {
    if (this.#ended) return;
    this.#ended = reason;
    this.#say({ end: reason, items: this.#items, batches: this.#batches, sampled: this.#sampled });
    clearTimeout(this.#timer);
    this.#left();
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<string>> {
    while (true) {
      const line = this.#lines.shift();
      if (line !== undefined) return { done: false, value: line };
      const batch = this.#ended ? undefined : this.#pending.shift();
      if (batch)
        await this.#decode(batch).catch(() => {}); // skip one that is too large when decompressed
      else if (this.#ended) return { done: true, value: undefined };
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  /** Called when the reader disconnects. */
  return(): Promise<IteratorResult<string>> {
    this.end('stopped');
    this.#lines.length = 0;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async #decode({ signal, class: priorityClass, payload, encoding, receivedAt }: Batch): Promise<void> {
    const { service, limit } = this.#wish;
    const body = await decodeContent(asBuffer(payload), encoding, { maxBytes: DECODED_MAX_BYTES });
    if (this.#ended) return;
    this.#sampled++;
    for (const item of sampleOf(signal, body, service, Math.min(ITEMS_PER_BATCH, limit - this.#items))) {
      this.#items++;
      this.#say({ at: receivedAt, signal, class: priorityClass, ...item });
    }
    if (this.#items >= limit) this.end('limit');
  }

  #say(line: TapLine): void {
    this.#lines.push(`${JSON.stringify(line)}\n`);
  }
}

/** Serves the tap on the admin address: one JSON object per line, the last one a summary. */
export function addTapRoute(admin: AdminServer, tap: Tap): void {
  admin.route('GET', '/api/tap', ({ query }) => tap.begin(wishOf(query)));
}

function wishOf(query: Record<string, string>): TapWish {
  const known = ['signal', 'class', 'service', 'limit', 'seconds'];
  const stranger = Object.keys(query).find((name) => !known.includes(name));
  if (stranger !== undefined) refuse(`unknown parameter "${stranger}"; expected ${known.join(', ')}`);
  return {
    signal: oneOf(
      'signal',
      query.signal,
      Object.keys(SIGNALS).filter((name) => name !== 'profiles') as Signal[],
    ),
    class: oneOf('class', query.class, CLASSES),
    service: query.service,
    limit: count('limit', query.limit, LIMIT),
    seconds: count('seconds', query.seconds, SECONDS),
  };
}

function oneOf<T extends string>(
  name: string,
  given: string | undefined,
  known: readonly T[],
): T | undefined {
  if (given === undefined || known.includes(given as T)) return given as T | undefined;
  return refuse(`${name}: "${given}" is unknown; expected one of ${known.join(', ')}`);
}

function count(name: string, given: string | undefined, { usual, most }: typeof LIMIT): number {
  const value = given === undefined ? usual : /^\d+$/.test(given) ? Number(given) : 0;
  if (value >= 1 && value <= most) return value;
  return refuse(`${name}: "${given}" is out of range; expected a whole number from 1 to ${most}`);
}

function refuse(message: string): never {
  throw new AdminError(400, 'bad_request', message);
}
