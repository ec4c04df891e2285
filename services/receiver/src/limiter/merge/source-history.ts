import type { ResourceBlock } from '../blocks.ts';
import { HashTable } from '../hash-table.ts';
import { Nanoseconds } from '../wire/nanoseconds.ts';
import type { Point } from '../wire/point.ts';
import { lessThan } from '../wire/reader.ts';
import { nameOf } from './level-value.ts';

/*
 * One producer is 6 int32: 0 hash lo   1 hash hi   2 last seen, seconds   3,4 time of the first collection   5 not used
 */
const STRIDE = 6;
const SEEN = 2;
const FIRST = 3;
/** Seen, but not yet reported to Redis. */
const UNTOLD = 1;

/** Maximum time between points of one collection: SDKs read the clock for each metric. */
const COLLECTION_NS = 50_000_000;

/**
 * What is known of a cumulative source that is not in the ledger.
 *
 *   forwarded unmerged so far                                   its own stream has its value
 *   began after the pipeline                                    new: its whole value counts
 *   its producer (resource) reported before, without it         new: it began after that
 *   otherwise                                                   unknown: it may have counted before anybody here saw it
 */
export class SourceHistory {
  readonly #producers: HashTable;
  readonly #watch = new Nanoseconds();
  readonly #collection = new Nanoseconds();
  /** Sources that another receiver forwards unmerged, by hash, for the current request. */
  readonly #forwarded = new Set<string>();
  /** Producers that the current request reports to Redis: hash and time of their first collection, in halves. */
  news: number[] = [];

  constructor(maxProducers: number, watchMs: number) {
    this.#producers = new HashTable(maxProducers, STRIDE);
    this.#watch.setMs(watchMs);
  }

  /** Since when the pipeline has seen everything. */
  set watchMs(unixMs: number) {
    this.#watch.setMs(unixMs);
  }

  begin(): void {
    this.news = [];
  }

  /**
   * Records that a producer has reported.
   * @param generationSec producers last seen before this second are reported to Redis again
   * @param firstTime time of one of its points, computed only if needed
   */
  note(
    { lo, hi }: ResourceBlock,
    { nowSec, generationSec }: { nowSec: number; generationSec: number },
    firstTime: () => [number, number],
  ): void {
    const { words } = this.#producers;
    let at = this.#producers.find(lo, hi);
    if (at < 0) {
      at = this.#insert(lo, hi, nowSec);
      [words[at + FIRST], words[at + FIRST + 1]] = firstTime();
      words[at + SEEN] = UNTOLD;
    }
    if (words[at + SEEN]! < Math.max(UNTOLD + 1, generationSec))
      this.news.push(lo, hi, words[at + FIRST]!, words[at + FIRST + 1]!);
    words[at + SEEN] = Math.max(UNTOLD + 1, nowSec);
  }

  /** Makes these be reported to Redis again. */
  retract(news: readonly number[]): void {
    const { words } = this.#producers;
    for (let i = 0; i < news.length; i += 4) {
      const at = this.#producers.find(news[i]!, news[i + 1]!);
      if (at >= 0) words[at + SEEN] = UNTOLD;
    }
  }

  /** Adds a producer that another receiver knows, or this one knew before a restart. */
  learn(lo: number, hi: number, firstLo: number, firstHi: number, nowSec: number): void {
    const { words } = this.#producers;
    let at = this.#producers.find(lo, hi);
    if (at < 0) at = this.#insert(lo, hi, nowSec);
    else if (!lessThan(firstLo, firstHi, words[at + FIRST]!, words[at + FIRST + 1]!)) return;
    words[at + FIRST] = firstLo;
    words[at + FIRST + 1] = firstHi;
  }

  /** These sources are forwarded unmerged; valid until the next request is settled. */
  learnForwarded(fields: readonly Buffer[]): void {
    for (const field of fields) this.#forwarded.add(field.toString('latin1'));
  }

  forgetForwarded(): void {
    if (this.#forwarded.size > 0) this.#forwarded.clear();
  }

  isForwarded(lo: number, hi: number): boolean {
    return this.#forwarded.size > 0 && this.#forwarded.has(nameOf(lo, hi));
  }

  /** Whether a point whose source is neither in the ledger nor forwarded is the first one of that source. */
  isNew({ lo, hi }: ResourceBlock, { startLo, startHi, timeLo, timeHi }: Point): boolean {
    if (!lessThan(startLo, startHi, this.#watch.lo, this.#watch.hi)) return true;
    const at = this.#producers.find(lo, hi);
    if (at < 0) return false;
    const { words } = this.#producers;
    this.#collection.set(words[at + FIRST]!, words[at + FIRST + 1]!).add(COLLECTION_NS);
    return this.#collection.isBefore(timeLo, timeHi);
  }

  #insert(lo: number, hi: number, nowSec: number): number {
    const producers = this.#producers;
    if (producers.used >= producers.maxEntries) producers.remove(producers.oldest(16, () => true));
    const at = producers.insert(lo, hi);
    producers.words[at + SEEN] = Math.max(UNTOLD + 1, nowSec);
    return at;
  }
}
