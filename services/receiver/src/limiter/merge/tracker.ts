import type { Around } from '../blocks.ts';
import { addDoubles } from '../wire/double.ts';
import { Nanoseconds } from '../wire/nanoseconds.ts';
import type { HistogramPoint, NumberPoint, Point } from '../wire/point.ts';
import { lessThan } from '../wire/reader.ts';
import {
  addExponential,
  type ExponentialPoint,
  emptyExponential,
  subtractExponential,
} from './accumulate-exponential.ts';
import { NumberValue } from './accumulate-number.ts';
import { Arena } from './arena.ts';
import { exponentialCells, readExponential, writeExponential } from './exponential-block.ts';
import { BEFORE, type JournalMark } from './journal.ts';
import { fieldOf, levelOf, nameOf, resumeLevel } from './level-value.ts';
import { BOUNDS, BOUNDS_SEEN, type Output, OutputTable } from './output-table.ts';
import { BASELINE, DIFFERENCE, FULL, missingSum, STALE, UNKNOWN } from './relation.ts';
import { CONVERTED, FORWARDED, INTO, OVERFLOW, SOURCE_WORDS, unpackSource } from './source.ts';
import { SourceClaimWriter, sourceClaims } from './source-claims.ts';
import type { SourceHistory } from './source-history.ts';
import { type Incoming, NOTHING_REDUCED } from './stream.ts';
import { StreamTable } from './stream-table.ts';
import {
  BLOCK,
  CELLS,
  CHANGED_BY,
  FLAGS,
  GONE,
  INTEGER,
  LEVEL,
  LIVE,
  SEEN,
  START,
  TIME,
  VALUE,
} from './stream-words.ts';
import { type DatedRange, isMissing, WriterTimes } from './writer-times.ts';

/**
 * Cumulative streams cannot simply be added: one that starts late, restarts or ends would make the sum jump. So each source is
 * turned into increments against its own last point, and the increments are accumulated per output stream.
 *
 *   known, time not later            stale: nothing new, the point is merged away
 *   known, other start or decreased  the whole value: it was reset; a missing start is no other one
 *   known                            value − last value
 *   new, forwarded so far            nothing: its own stream has it; this point is the baseline
 *   new                              the whole value
 *   of unknown history               nothing: it becomes the baseline, which is counted
 *
 * Non-monotonic sums are levels, not counts: an increment may be negative, and the value of a source that ends is subtracted.
 *
 * The last points of sources belong to all receivers: they are in a ledger in Redis, of which this is a cache. A request claims
 * each source that it advances, with the version from which the increment was computed and the new one. The step that makes the
 * request durable compares and writes; until then everything here can be undone.
 */
export type Outcome = 'added' | 'stale' | 'unknown' | 'full' | 'bounds';

export interface TrackerLimits {
  /** In memory; also the limit for one request. */
  maxSources: number;
  /** In the ledger, of all receivers. */
  maxLedger: number;
  maxOutputs: number;
  arenaCells: number;
  /** Number of requests after which they are counted from 1 again; only tests give it. */
  renumberAt?: number;
}

export interface TrackerMark {
  /** The request that begins at it, or the last one. */
  readonly request: number;
  readonly sources: JournalMark;
  readonly outputs: JournalMark;
  /** The request after the mark has ended sources, by its claims. */
  hasEnded: boolean;
}

const NOTHING = Buffer.alloc(0);
const RENUMBER_AT = 2 ** 30;
const now = new NumberValue();
const last = new NumberValue();
const difference = new NumberValue();
const total = new NumberValue();

/** Number of sources of which the one not seen for longest is evicted. */
const LOOKED_AT = 8;
/** Maximum number of sources evicted to make room for one block. */
const EVICTIONS_MAX = 64;
/** Size of the list of ended levels, in words; others are checked again in the next round. */
const ENDED_MAX = 512;

export class Tracker {
  readonly sources: StreamTable;
  readonly outputs: OutputTable;
  readonly arena: Arena;
  readonly times = new WriterTimes();
  sourceEvictions = 0;
  outputEvictions = 0;
  /** Sources in the ledger, as of the last step; some may be missing here. */
  ledgerSources = 0;
  /** Whether merged counts are sent as deltas. */
  deltas = false;
  readonly #claims = new SourceClaimWriter();
  #mark: TrackerMark;
  #request = 0;
  /** The last request up to which all were kept or undone. */
  #settled = 0;
  readonly #maxLedger: number;
  readonly #renumberAt: number;
  readonly #history: SourceHistory;
  readonly #around: Around;
  #nowSec = 1;
  /** Levels of this writer from before it started, by hash. */
  #levels = new Map<string, Buffer>();
  readonly #levelStart = new Nanoseconds();
  /** Hashes, low and high in turn, of levels that have expired and are still part of an output. */
  readonly #ended: number[] = [];
  #ttlSec = 0;

  constructor(limits: TrackerLimits, history: SourceHistory, around: Around) {
    this.arena = new Arena(limits.arenaCells);
    this.sources = new StreamTable(limits.maxSources, SOURCE_WORDS, this.arena);
    this.outputs = new OutputTable(limits.maxOutputs, this.arena);
    this.#maxLedger = limits.maxLedger;
    this.#renumberAt = limits.renumberAt ?? RENUMBER_AT;
    this.#history = history;
    this.#around = around;
    this.#mark = this.mark();
  }

  get memoryBytes(): number {
    return this.sources.memoryBytes + this.arena.memoryBytes + this.outputs.memoryBytes;
  }

  /**
   * Begins as a writer whose streams start at `startMs`; no earlier stream is continued.
   * @param levels of this writer, as claimed before it started
   */
  restart(startMs: number, levelStartMs: number, levels: ReadonlyMap<string, Buffer>): void {
    for (const output of this.outputs.all()) this.#removeOutput(output);
    this.times.restart(startMs);
    this.#levelStart.setMs(levelStartMs);
    this.#levels = new Map(levels);
  }

  /** Sends merged counts as deltas from now on, or as cumulative streams that begin now. Only while no request is open. */
  sendDeltas(deltas: boolean): void {
    if (deltas === this.deltas) return;
    this.deltas = deltas;
    for (const output of this.outputs.all()) if (!output.isLevel) this.#removeOutput(output);
  }

  /**
   * Advances the time and expires a few of the sources not seen for `ttlSec`. Only while no request is open.
   * @param wallMs the clock by which points are dated
   */
  tick(nowMs: number, ttlSec: number, wallMs: number): void {
    const nowSec = Math.floor(nowMs / 1000);
    this.#nowSec = nowSec;
    this.#ttlSec = ttlSec;
    this.times.tick(wallMs);
    if (!this.sources.journal.isEmpty || !this.outputs.journal.isEmpty) return;
    const beforeSec = nowSec - ttlSec;
    if (this.sources.used > 0) this.sources.sweep(256, beforeSec, nowSec, 256, this.#expireSource);
    if (this.outputs.used > 0) this.outputs.sweep(64, beforeSec, nowSec, 64, this.#expireOutput);
  }

  /** Begins a request. @returns its mark */
  begin(): TrackerMark {
    this.#settle();
    if (this.#request >= this.#renumberAt) this.#renumber();
    this.#request++;
    this.times.begin();
    this.#mark = this.mark();
    this.sources.begin(this.#request, this.#mark.sources);
    this.outputs.begin(this.#request, this.#mark.outputs);
    return this.#mark;
  }

  mark(): TrackerMark {
    return {
      request: this.#request,
      sources: this.sources.journal.mark(),
      outputs: this.outputs.journal.mark(),
      hasEnded: false,
    };
  }

  /** Undoes all requests from `mark` on. */
  undo(mark: TrackerMark): void {
    this.sources.undo(mark.sources);
    this.outputs.undo(mark.outputs);
    this.#settle();
  }

  /**
   * Makes the oldest open request final.
   * @param end mark of the next one
   * @param claimed its `claims`, whose memory is reused
   */
  keep({ request, hasEnded }: TrackerMark, end: TrackerMark, claimed: Buffer): void {
    if (hasEnded) this.#dropEnded(request, end);
    this.#claims.release(claimed);
    this.sources.journal.keep(end.sources);
    this.outputs.journal.keep(end.outputs);
    this.#settle();
  }

  #dropEnded(request: number, end: TrackerMark): void {
    const { words, journal } = this.sources;
    const { records } = journal;
    for (let i = journal.oldest, to = journal.first(end.sources); i < to; i += journal.recordWords) {
      const at = records[i]!;
      if ((words[at + FLAGS]! & GONE) === 0) continue;
      // A source ended by a later request must remain restorable until that is kept.
      if (words[at + CHANGED_BY] === request) this.sources.drop(at);
    }
  }

  /** Counts requests from 1 again once none is open, before their number exceeds an int32. */
  #renumber(): void {
    if (!this.sources.journal.isEmpty || !this.outputs.journal.isEmpty) return;
    this.sources.forgetRequests();
    this.outputs.forgetRequests();
    this.#request = this.#settled = 0;
  }

  #settle(): void {
    if (this.sources.journal.isEmpty) this.#settled = this.#request;
  }

  /** The sources that the current request has advanced; see source-claims.ts. */
  claims(): Buffer {
    const { words, journal } = this.sources;
    const { records, end, recordWords } = journal;
    const first = journal.first(this.#mark.sources);
    const writer = this.#claims;
    const { cells } = this.arena;
    if (first === end) return NOTHING;
    writer.begin((end - first) / recordWords, words[records[first]! + CELLS]!);
    for (let i = first; i < end; i += recordWords) writer.add(words, records[i]!, cells, records, i + BEFORE);
    this.#mark.hasEnded = writer.hasEnded;
    return writer.end();
  }

  /** The levels of this writer that the current request has changed: field and value, in turn. */
  levelClaims(): Buffer[] {
    const claims: Buffer[] = [];
    const { journal } = this.outputs;
    for (let i = journal.first(this.#mark.outputs); i < journal.end; i += journal.recordWords) {
      const output = this.outputs.at(journal.records[i]!);
      if (output.isLevel) claims.push(fieldOf(output.lo, output.hi), levelOf(output));
    }
    return claims;
  }

  /**
   * Sets the ledger's entry of a source. Only while no request is open.
   * @param bytes undefined if there is none
   */
  learn(field: Buffer, bytes: Buffer | undefined): void {
    const { sources } = this;
    const lo = field.readInt32LE(0);
    const hi = field.readInt32LE(4);
    const found = sources.find(lo, hi);
    if (found >= 0) sources.drop(found);
    if (!bytes) return;
    const at = this.#insert(lo, hi);
    if (at >= 0 && !unpackSource(bytes, sources.words, at, this.#take, this.arena.cells)) sources.remove(at);
  }

  /** Every source in the ledger's format. Only while no request is open. */
  allSources(): [field: Buffer, value: Buffer][] {
    const { words } = this.sources;
    const writer = new SourceClaimWriter();
    writer.begin(this.sources.used, 0);
    this.sources.forEach((at) => {
      writer.add(words, at, this.arena.cells);
    });
    return sourceClaims(writer.end()).map(({ field, value }) => [field, value]);
  }

  /** Every level of this writer, as it is claimed. */
  allLevels(): [field: Buffer, value: Buffer][] {
    const all = new Map(this.#levels);
    for (const output of this.outputs.all())
      if (output.isLevel) all.set(nameOf(output.lo, output.hi), levelOf(output));
    return [...all]
      .filter(([, value]) => value.length > 0)
      .map(([field, value]) => [Buffer.from(field, 'latin1'), value]);
  }

  /** Whether a source is new and there is no room for it. */
  isFull(sourceAt: number): boolean {
    if (sourceAt >= 0) return false;
    const { changed, maxEntries } = this.sources;
    return changed >= maxEntries || this.ledgerSources + changed >= this.#maxLedger;
  }

  /** Whether this source goes into the overflow stream of its metric. */
  overflows(sourceAt: number): boolean {
    return (this.sources.words[sourceAt + FLAGS]! & OVERFLOW) !== 0;
  }

  /** The output stream of this hash, created if there is room. */
  output(lo: number, hi: number, isLevel: boolean): Output | undefined {
    const { outputs } = this;
    let output = outputs.get(lo, hi);
    if (!output) {
      const at = outputs.insert(lo, hi);
      if (at < 0) return undefined;
      outputs.words[at + FLAGS] = GONE;
      outputs.remember(at);
      output = outputs.at(at);
      output.begin(isLevel, this.deltas && !isLevel);
      output.setStart(isLevel ? this.#levelStart : this.times.start);
      if (isLevel) resumeLevel(output, this.#levels.get(nameOf(lo, hi)));
    }
    outputs.words[output.at + SEEN] = this.#nowSec;
    return output;
  }

  addNumber(from: Incoming, output: Output, point: NumberPoint): Outcome {
    const { words } = this.sources;
    const { isLevel } = this.#around.metric;
    const at = this.#source(from);
    if (at < 0) return 'full';
    now.set(point.isInt, point.lo, point.hi);
    this.#readSource(at, last);
    const isKnown = (words[at + FLAGS]! & GONE) === 0;
    const time = this.times.of(point);
    let relation = this.#relation(from, at, point, time);
    if (relation === STALE) return 'stale';
    if (relation === DIFFERENCE && !isLevel && now.lessThan(last)) relation = FULL;
    this.#remember(output);
    output.readValue(total);
    if (isLevel) {
      // Replace this source's previous contribution.
      total.add(now);
      if (isKnown) total.subtract(last);
    } else if (relation === DIFFERENCE) total.add(difference.copy(now).subtract(last));
    else if (relation === FULL) total.add(now);
    output.writeValue(total);
    words[at + VALUE] = point.lo;
    words[at + VALUE + 1] = point.hi;
    const flags = (point.isInt ? INTEGER : 0) | (isLevel ? LEVEL : 0);
    return this.#note(from, at, point, time, relation, flags);
  }

  /** Ends a level whose source reports no value any more. The ledger may have it even if it is unknown here. */
  endLevel(from: Incoming, output: Output, point: NumberPoint): Outcome {
    const { words } = this.sources;
    const at = this.#source(from);
    if (at < 0) return 'full';
    if ((words[at + FLAGS]! & GONE) !== 0) {
      if (from.wasForwarded) words[at + FLAGS]! |= FORWARDED;
      return 'stale';
    }
    const { lo, hi } = this.times.of(point);
    if (!lessThan(words[at + TIME]!, words[at + TIME + 1]!, lo, hi)) return 'stale';
    this.#takeOff(at, output);
    return 'added';
  }

  addHistogram(from: Incoming, output: Output, point: HistogramPoint): Outcome {
    const { buckets, counts } = point;
    if (output.isDelta) this.#remember(output);
    const length = 2 + buckets;
    if (!this.#fitBounds(output, point, length)) return output.block === 0 ? 'full' : 'bounds';
    const at = this.#source(from);
    if (at < 0) return 'full';
    const { words } = this.sources;
    const { cells } = this.arena;
    const time = this.times.of(point);
    let relation = this.#relation(from, at, point, time);
    if (relation === STALE) return 'stale';
    let block = words[at + BLOCK]!;
    const sameBounds = words[at + CELLS] === length && words[at + VALUE] === point.boundsLo;
    if (block === 0 || !sameBounds) {
      block = this.sources.fit(at, length, this.#take);
      if (block === 0) return 'full';
      // Bounds changed, so there is no previous value to subtract. A histogram does not change its bounds, so its producer was
      // restarted: count the whole value.
      if (relation === DIFFERENCE) relation = FULL;
    }
    if (relation === DIFFERENCE && this.#fell(block, point)) relation = FULL;
    this.#remember(output);
    const sum = point.hasSum ? point.sum : missingSum(relation, cells[block + 1]!);
    if (relation <= DIFFERENCE) {
      const keep = relation === DIFFERENCE ? 1 : 0;
      const sums = output.block;
      cells[sums]! += point.count - keep * cells[block]!;
      const increment = addDoubles(sum, -keep * cells[block + 1]!);
      if (Number.isNaN(increment)) output.withoutSum();
      else cells[sums + 1] = addDoubles(cells[sums + 1]!, increment);
      for (let i = 0; i < buckets; i++) cells[sums + 2 + i]! += counts[i]! - keep * cells[block + 2 + i]!;
    }
    if (!point.hasSum) output.withoutSum();
    words[at + VALUE] = point.boundsLo;
    words[at + VALUE + 1] = point.boundsHi;
    cells[block] = point.count;
    cells[block + 1] = sum;
    for (let i = 0; i < buckets; i++) cells[block + 2 + i] = counts[i]!;
    return this.#note(from, at, point, time, relation, 0);
  }

  addExponential(from: Incoming, output: Output, point: ExponentialPoint): Outcome {
    const { value } = point;
    const at = this.#source(from);
    if (at < 0) return 'full';
    const { cells } = this.arena;
    const time = this.times.of(point);
    let relation = this.#relation(from, at, point, time);
    if (relation === STALE) return 'stale';
    let increment = value;
    let lastSum = 0;
    if (relation === DIFFERENCE) {
      const last = readExponential(cells, this.sources.words[at + BLOCK]!);
      lastSum = last.sum;
      const added = subtractExponential(value, last);
      if (added) increment = added;
      else relation = FULL;
    }
    const sum = value.hasSum ? value.sum : missingSum(relation, lastSum);
    increment = { ...increment, sum: relation === DIFFERENCE ? addDoubles(sum, -lastSum) : sum };
    if (Number.isNaN(increment.sum)) {
      output.withoutSum();
      increment.sum = 0;
    }
    if (output.isDelta) this.#remember(output);
    // The stored histogram may be scaled down to fit; the next difference is then computed at that scale.
    const stored = { ...addExponential(value, emptyExponential(value.scale)), sum };
    const before = output.block === 0 ? emptyExponential(value.scale) : readExponential(cells, output.block);
    const grown = relation <= DIFFERENCE ? addExponential(before, increment) : before;
    const block = this.sources.fit(at, exponentialCells(stored), this.#take);
    if (block === 0) return 'full';
    this.#remember(output);
    if (this.outputs.fit(output.at, exponentialCells(grown), this.#take) === 0) return 'full';
    writeExponential(cells, output.block, grown);
    writeExponential(cells, block, stored);
    if (!value.hasSum) output.withoutSum();
    return this.#note(from, at, point, time, relation, 0);
  }

  /** Dates the point of a cumulative stream; see WriterTimes. */
  advance(output: Output, timeLo: number, timeHi: number): void {
    this.#remember(output);
    this.times.advance(output, timeLo, timeHi);
  }

  /** Dates an increment. @returns whether its start or time was moved */
  follow(output: Output, point: DatedRange): boolean {
    this.#remember(output);
    return this.times.follow(output, point);
  }

  /** Subtracts expired levels from the output they are part of. */
  takeOffEnded(intoLo: number, intoHi: number, output: Output): void {
    const { words } = this.sources;
    const ended = this.#ended;
    for (let i = ended.length - 2; i >= 0; i -= 2) {
      const at = this.sources.find(ended[i]!, ended[i + 1]!);
      const isEnded = at >= 0 && words[at + SEEN]! < this.#nowSec - this.#ttlSec;
      if (isEnded && (words[at + INTO] !== intoLo || words[at + INTO + 1] !== intoHi)) continue;
      ended.splice(i, 2);
      if (isEnded && (words[at + FLAGS]! & GONE) === 0) this.#takeOff(at, output);
    }
  }

  /** How the point relates to the source's last one; never DIFFERENCE for an unknown source. */
  #relation(from: Incoming, at: number, point: Point, { lo, hi }: Nanoseconds): number {
    const { words } = this.sources;
    if ((words[at + FLAGS]! & GONE) === 0) {
      if (!lessThan(words[at + TIME]!, words[at + TIME + 1]!, lo, hi)) return STALE;
      const { startLo, startHi } = point;
      const lastLo = words[at + START]!;
      const lastHi = words[at + START + 1]!;
      if ((lastLo === startLo && lastHi === startHi) || isMissing(startLo, startHi)) return DIFFERENCE;
      // A life whose start was not known has this one, unless it begins after the last point.
      const isKnownNow =
        isMissing(lastLo, lastHi) && lessThan(startLo, startHi, words[at + TIME]!, words[at + TIME + 1]!);
      return isKnownNow ? DIFFERENCE : FULL;
    }
    const { metric, resource } = this.#around;
    if (metric.isLevel) return FULL;
    if (from.wasForwarded) return BASELINE;
    return this.#history.isNew(resource, point) ? FULL : UNKNOWN;
  }

  /** The source of a point, created if there is room; the caller may change it. */
  #source({ fullLo, fullHi, sourceAt }: Incoming): number {
    const { sources } = this;
    let at = sources.find(fullLo, fullHi, sourceAt);
    if (at < 0) {
      at = this.isFull(at) ? -1 : this.#insert(fullLo, fullHi);
      if (at < 0) return -1;
      sources.words[at + FLAGS] = GONE;
    }
    this.#rememberSource(at);
    return at;
  }

  #rememberSource(at: number): void {
    const { sources } = this;
    // Only the first point of a stream in a request hands it over, so the flag stays for those that follow in the same request.
    if (sources.remember(at)) sources.words[at + FLAGS]! &= ~FORWARDED;
  }

  /** Inserts a source; one that the ledger has too is evicted if needed. @returns -1 if open requests use all of them */
  #insert(lo: number, hi: number): number {
    const { sources } = this;
    if (sources.used >= sources.maxEntries && !this.#evictSource()) return -1;
    return sources.insert(lo, hi);
  }

  /** Evicts a source, which the ledger has too. @returns false if open requests use all of them */
  #evictSource(): boolean {
    const { words } = this.sources;
    const oldest = this.sources.oldest(LOOKED_AT, (at) => words[at + CHANGED_BY]! <= this.#settled);
    if (oldest >= 0) this.#expire(oldest);
    return oldest >= 0;
  }

  #remember(output: Output): void {
    if (!this.outputs.remember(output.at) || !output.isDelta) return;
    output.empty();
    this.outputs.release(output.at);
  }

  #note(
    from: Incoming,
    at: number,
    point: Point,
    { lo, hi }: Nanoseconds,
    relation: number,
    flags: number,
  ): Outcome {
    const { words } = this.sources;
    if (lo !== point.timeLo || hi !== point.timeHi) this.times.skewed++;
    words[at + FLAGS] =
      LIVE |
      flags |
      (from.reduction.overflow ? OVERFLOW : 0) |
      (from.reduction === NOTHING_REDUCED ? CONVERTED : 0) |
      (from.wasForwarded ? FORWARDED : words[at + FLAGS]! & FORWARDED);
    words[at + SEEN] = this.#nowSec;
    // A point without a start that continues a life keeps the known one.
    if (relation !== DIFFERENCE || !isMissing(point.startLo, point.startHi)) {
      words[at + START] = point.startLo;
      words[at + START + 1] = point.startHi;
    }
    words[at + TIME] = lo;
    words[at + TIME + 1] = hi;
    words[at + INTO] = from.reducedLo;
    words[at + INTO + 1] = from.reducedHi;
    return relation === UNKNOWN ? 'unknown' : 'added';
  }

  #fell(block: number, point: HistogramPoint): boolean {
    const { cells } = this.arena;
    if (point.count < cells[block]!) return true;
    for (let i = 0; i < point.buckets; i++) if (point.counts[i]! < cells[block + 2 + i]!) return true;
    return false;
  }

  /** Whether the point has the output's bounds. The first point sets them; they change once none has matched for 5 minutes. */
  #fitBounds(output: Output, point: HistogramPoint, length: number): boolean {
    const { words } = this.outputs;
    const { at, block } = output;
    const same =
      block !== 0 &&
      output.boundsLo === point.boundsLo &&
      output.boundsHi === point.boundsHi &&
      output.cells === length;
    if (!same) {
      if (block !== 0 && this.#nowSec - words[at + BOUNDS_SEEN]! < 300) return false;
      this.#remember(output);
      const sums = this.outputs.fit(at, length, this.#take);
      if (sums === 0) return false;
      if (block !== 0) output.setStart({ lo: output.timeLo, hi: output.timeHi }); // restart it where the old one ended
      this.arena.cells.fill(0, sums, sums + length);
      words[at + BOUNDS] = point.boundsLo;
      words[at + BOUNDS + 1] = point.boundsHi;
    }
    words[at + BOUNDS_SEEN] = this.#nowSec;
    return true;
  }

  /** Allocates a block; sources that the ledger has too are evicted if needed. @returns 0 if there is no room */
  #take = (cells: number): number => {
    let block = this.arena.take(cells);
    for (let tries = 0; block === 0 && tries < EVICTIONS_MAX && this.#evictSource(); tries++)
      block = this.arena.take(cells);
    return block;
  };

  #readSource(at: number, into: NumberValue): void {
    const { words } = this.sources;
    into.set((words[at + FLAGS]! & INTEGER) !== 0, words[at + VALUE]!, words[at + VALUE + 1]!);
  }

  /** Subtracts a level from the output and ends its source. */
  #takeOff(at: number, output: Output): void {
    this.#remember(output);
    this.#rememberSource(at);
    this.#readSource(at, last);
    output.writeValue(output.readValue(total).subtract(last));
    this.sources.words[at + FLAGS]! |= GONE;
  }

  /** Expires a source, which the ledger keeps. A level must be subtracted from its output first. */
  #expireSource = (at: number): boolean => {
    const { words } = this.sources;
    if ((words[at + FLAGS]! & LEVEL) === 0) this.#expire(at);
    else {
      const [lo, hi] = [words[at]!, words[at + 1]!];
      const ended = this.#ended;
      for (let i = 0; i < ended.length; i += 2) if (ended[i] === lo && ended[i + 1] === hi) return true;
      if (ended.length < ENDED_MAX) ended.push(lo, hi);
    }
    return true;
  };

  #expire(source: number): void {
    this.sourceEvictions++;
    this.sources.drop(source);
  }

  /** A stream of this hash that comes later is a new one, and starts later. */
  #expireOutput = (at: number): boolean => {
    this.outputEvictions++;
    this.#removeOutput(this.outputs.at(at));
    return true;
  };

  #removeOutput(output: Output): void {
    if (output.isLevel) {
      // Sources may still be part of it, so keep its value.
      const value = levelOf(output);
      if (value.length === 0) this.#levels.delete(nameOf(output.lo, output.hi));
      else this.#levels.set(nameOf(output.lo, output.hi), value);
    }
    this.times.start.max(output.timeLo, output.timeHi);
    this.outputs.drop(output.at);
  }
}
