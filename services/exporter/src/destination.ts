import type { ContentEncoding } from '@nrdot/otlp';

/** A learned size limit is doubled after so long without another 413, since servers change. */
const RELEARN_MS = 600_000;
/** No server has a smaller limit: one that still answers 413 means something else, and nothing is split further for it beforehand. */
const LEARNED_MIN_BYTES = 4_096;
/** In the order in which they are tried; every server accepts the last one. */
const FALLBACKS: readonly ContentEncoding[] = ['gzip', 'identity'];
/** After so many 400s that persisted without compression, a 400 is taken to be about the data. */
const MAX_DOUBTS = 3;

/**
 * What is known of the server behind one signal's URL: which encodings it accepts and the maximum size of a request. Learned
 * from its answers and kept in memory only: a new process learns it again with a few requests.
 */
export class Destination {
  readonly #configuredMaxBytes: number;
  readonly #taken = new Set<ContentEncoding>();
  readonly #refused = new Set<ContentEncoding>();
  readonly #doubts = new Map<ContentEncoding, number>();
  #largestTaken = 0;
  #learned: { maxBytes: number; atMs: number } | undefined;

  /** @param maxBytes configured maximum of a request on the wire */
  constructor(maxBytes: number | undefined) {
    this.#configuredMaxBytes = maxBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Maximum size of a request that is worth sending. */
  maxBytes(nowMs: number): number {
    if (!this.#learned) return this.#configuredMaxBytes;
    const doublings = Math.floor(Math.max(0, nowMs - this.#learned.atMs) / RELEARN_MS);
    return Math.min(this.#configuredMaxBytes, this.#learned.maxBytes * 2 ** doublings);
  }

  /** The encoding to send instead of `wanted`, if the server does not accept that. */
  encodingFor(wanted: ContentEncoding): ContentEncoding {
    if (!this.#refused.has(wanted)) return wanted;
    return FALLBACKS.find((encoding) => !this.#refused.has(encoding)) ?? 'identity';
  }

  took(encoding: ContentEncoding, bytes: number): void {
    this.#taken.add(encoding);
    this.#refused.delete(encoding);
    this.#largestTaken = Math.max(this.#largestTaken, bytes);
  }

  /** Records that a request was too large: lowers the limit, but not below what the server has accepted. */
  tooLarge(bytes: number, nowMs: number): void {
    if (this.#largestTaken >= bytes) this.#largestTaken = 0; // it accepts less than before
    const maxBytes = Math.max(this.#largestTaken, Math.floor(bytes / 2), LEARNED_MIN_BYTES);
    this.#learned = { maxBytes: Math.min(maxBytes, this.maxBytes(nowMs)), atMs: nowMs };
  }

  /** Records that the server does not accept an encoding. */
  refuses(encoding: ContentEncoding): void {
    if (encoding !== 'identity') this.#refused.add(encoding);
  }

  /**
   * The encoding to try next after a 400 with an encoding that the server has never accepted: it may be unable to decode it. If
   * the other one is accepted, the caller reports that with `refuses`.
   */
  doubts(encoding: ContentEncoding): ContentEncoding | undefined {
    const before = this.#doubts.get(encoding) ?? 0;
    if (encoding === 'identity' || this.#taken.has(encoding) || before >= MAX_DOUBTS) return undefined;
    this.#doubts.set(encoding, before + 1);
    return FALLBACKS.find((other) => other !== encoding && !this.#refused.has(other));
  }
}
