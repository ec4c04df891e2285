import type { ContentEncoding } from '@nrdot/otlp';

/** A size that was learned is doubled after so long without another refusal: servers change. */
const RELEARN_MS = 600_000;
/** In the order in which they are tried; the last needs nothing of a server. */
const FALLBACKS: readonly ContentEncoding[] = ['gzip', 'identity'];
/** Doubts about an encoding that plain bytes did not clear up: after so many it is the data that is refused. */
const MAX_DOUBTS = 3;

/**
 * What is known of the server behind one signal's URL: which encodings it takes and how large a request may be. Learned from its
 * answers, kept in memory: the next process learns it again for the price of a few requests.
 */
export class Destination {
  readonly #configuredMaxBytes: number;
  readonly #taken = new Set<ContentEncoding>();
  readonly #refused = new Set<ContentEncoding>();
  readonly #doubts = new Map<ContentEncoding, number>();
  #largestTaken = 0;
  #learned: { maxBytes: number; atMs: number } | undefined;

  /** @param maxBytes of a request on the wire, by configuration */
  constructor(maxBytes: number | undefined) {
    this.#configuredMaxBytes = maxBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Largest request that is worth a try. */
  maxBytes(nowMs: number): number {
    if (!this.#learned) return this.#configuredMaxBytes;
    const doublings = Math.floor(Math.max(0, nowMs - this.#learned.atMs) / RELEARN_MS);
    return Math.min(this.#configuredMaxBytes, this.#learned.maxBytes * 2 ** doublings);
  }

  /** How to send what is to be sent as `wanted`. */
  encodingFor(wanted: ContentEncoding): ContentEncoding {
    if (!this.#refused.has(wanted)) return wanted;
    return FALLBACKS.find((encoding) => !this.#refused.has(encoding)) ?? 'identity';
  }

  took(encoding: ContentEncoding, bytes: number): void {
    this.#taken.add(encoding);
    this.#refused.delete(encoding);
    this.#largestTaken = Math.max(this.#largestTaken, bytes);
  }

  /** Told of a request that was too large for it: from now on less, but what it has taken before is not. */
  tooLarge(bytes: number, nowMs: number): void {
    if (this.#largestTaken >= bytes) this.#largestTaken = 0; // it takes less than it did
    const maxBytes = Math.max(this.#largestTaken, Math.floor(bytes / 2), 1);
    this.#learned = { maxBytes: Math.min(maxBytes, this.maxBytes(nowMs)), atMs: nowMs };
  }

  /** Told that it does not read an encoding. */
  refuses(encoding: ContentEncoding): void {
    if (encoding !== 'identity') this.#refused.add(encoding);
  }

  /**
   * What to try instead of an encoding that it has never taken, when it calls a request malformed: perhaps it could not read it.
   * Whether that was so, `refuses` tells when the other was taken.
   */
  doubts(encoding: ContentEncoding): ContentEncoding | undefined {
    const before = this.#doubts.get(encoding) ?? 0;
    if (encoding === 'identity' || this.#taken.has(encoding) || before >= MAX_DOUBTS) return undefined;
    this.#doubts.set(encoding, before + 1);
    return FALLBACKS.find((other) => other !== encoding && !this.#refused.has(other));
  }
}
