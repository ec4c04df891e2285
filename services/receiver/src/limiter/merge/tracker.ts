import type { ResourceBlock } from '../blocks.ts';
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
import { Arena, sameSize } from './arena.ts';
import { exponentialCells, readExponential, writeExponential } from './exponential-block.ts';
import { BEFORE, Journal, type JournalMark } from './journal.ts';
import { fieldOf, levelOf, resumeLevel } from './level-value.ts';
import { OUTPUT_BLOCK, OUTPUT_CELLS, OUTPUT_WORDS, type Output, OutputTable } from './output-table.ts';
import { SourceClaimWriter, sourceClaims } from './source-claims.ts';
import type { SourceHistory } from './source-history.ts';
import {
  BLOCK,
  CELLS,
  CHANGED_BY,
  CLAIM_AT,
  CONVERTED,
  FORWARDED,
  GONE,
  INTEGER,
  INTO,
  LEVEL,
  LIVE,
  OVERFLOW,
  SEEN,
  SOURCE_FLAGS,
  SOURCE_WORDS,
  SourceTable,
  START,
  TIME,
  unpackSource,
  VALUE,
} from './source-table.ts';

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
}

/** How a point relates to the last one of its source. */
const FULL = 0;
const DIFFERENCE = 1;
const BASELINE = 2;
/** A baseline too, because its history is unknown. */
const UNKNOWN = 3;
const STALE = 4;

export interface Contribution {
  /** The resource of the source. */
  resource: ResourceBlock;
  /** Hash of the stream with all its labels. */
  sourceLo: number;
  sourceHi: number;
  /** Position of the source, if it was looked up before, or -1. */
  sourceAt: number;
  output: Output;
  isMonotonic: boolean;
  /** Hash of the stream that it is merged into, without the writer's part. */
  intoLo: number;
  intoHi: number;
  /** Its own stream was forwarded up to this point. */
  wasForwarded: boolean;
  /** It goes to the overflow stream of its metric. */
  overflow: boolean;
  /** It keeps all its labels and is sent as deltas. */
  converted: boolean;
}

/** A level of this writer, as stored across restarts. */
export interface LevelClaim {
  field: Buffer;
  value: Buffer;
}

type Dated = Pick<Point, 'startLo' | 'startHi' | 'timeLo' | 'timeHi'>;

export interface TrackerMark {
  /** The last request before it. */
  readonly request: number;
  readonly sources: JournalMark;
  readonly outputs: JournalMark;
  /** The request after the mark has ended sources, by its claims. */
  hasEnded: boolean;
}

const NOTHING = Buffer.alloc(0);
const now = new NumberValue();
const last = new NumberValue();
const difference = new NumberValue();
const total = new NumberValue();
const moment = new Nanoseconds();
const begin = new Nanoseconds();
const interval = new Nanoseconds();

/** How far an output may be ahead of the clock, at a millisecond per point, before it advances by microseconds. */
const AHEAD_MS = 60_000;
/** Times further ahead are replaced by the receiver's. */
const CLOCK_AHEAD_MS = 600_000;

/** Maximum number of sources evicted to make room for one block. */
const EVICTIONS_MAX = 64;
/** Size of the list of ended levels, in words; others are checked again in the next round. */
const ENDED_MAX = 512;

export class Tracker {
  readonly sources: SourceTable;
  readonly outputs: OutputTable;
  readonly arena: Arena;
  sourceEvictions = 0;
  outputEvictions = 0;
  /** Sources in the ledger, as of the last step; some may be missing here. */
  ledgerSources = 0;
  /** Whether merged counts are sent as deltas. */
  #deltas = false;
  /** Points of the current request whose time was replaced. */
  skewed = 0;
  readonly #sourceJournal: Journal;
  readonly #outputJournal: Journal;
  readonly #claims = new SourceClaimWriter();
  #mark: TrackerMark;
  #request = 0;
  /** The last request up to which all were kept or undone. */
  #settled = 0;
  readonly #maxLedger: number;
  readonly #history: SourceHistory;
  /** Number of sources that the current request has changed. */
  #claimed = 0;
  #outputsChanged = 0;
  #nowSec = 1;
  readonly #now = new Nanoseconds();
  readonly #believed = new Nanoseconds();
  readonly #aheadMost = new Nanoseconds();
  /** Start of new streams: later than any point of this writer in other streams. */
  readonly #start = new Nanoseconds();
  readonly #written = new Nanoseconds();
  /** Latest time ever written, also by undone requests, which may have been sent all the same. */
  readonly #latest = new Nanoseconds();
  /** Levels of this writer from before it started, by hash. */
  #levels = new Map<string, Buffer>();
  readonly #levelStart = new Nanoseconds();
  /** Hashes, low and high in turn, of levels that have expired and are still part of an output. */
  readonly #ended: number[] = [];
  #ttlSec = 0;

  constructor(limits: TrackerLimits, history: SourceHistory) {
    this.sources = new SourceTable(limits.maxSources);
    this.outputs = new OutputTable(limits.maxOutputs);
    this.arena = new Arena(limits.arenaCells);
    this.#maxLedger = limits.maxLedger;
    this.#history = history;
    this.#sourceJournal = new Journal(SOURCE_WORDS, this.arena, BLOCK, CELLS);
    this.#outputJournal = new Journal(OUTPUT_WORDS, this.arena, OUTPUT_BLOCK, OUTPUT_CELLS);
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
    for (const output of this.outputs.all()) if (output.live) this.#removeOutput(output);
    this.#start.setMs(startMs);
    if (!this.#latest.isBefore(this.#start.lo, this.#start.hi)) this.#start.copy(this.#latest).add(1_000_000);
    this.#levelStart.setMs(levelStartMs);
    this.#levels = new Map(levels);
  }

  /** Sends merged counts as deltas from now on, or as cumulative streams that begin now. Only while no request is open. */
  set deltas(deltas: boolean) {
    if (deltas === this.#deltas) return;
    this.#deltas = deltas;
    for (const output of this.outputs.all()) if (output.live && !output.isLevel) this.#removeOutput(output);
  }

  get deltas(): boolean {
    return this.#deltas;
  }

  /**
   * Advances the time and expires a few of the sources not seen for `ttlSec`. Only while no request is open.
   * @param wallMs the clock by which points are dated
   */
  tick(nowMs: number, ttlSec: number, wallMs: number): void {
    const nowSec = Math.floor(nowMs / 1000);
    this.#nowSec = nowSec;
    this.#ttlSec = ttlSec;
    this.#now.setMs(wallMs);
    this.#believed.setMs(wallMs + CLOCK_AHEAD_MS);
    this.#aheadMost.setMs(wallMs + AHEAD_MS);
    if (!this.#sourceJournal.isEmpty || !this.#outputJournal.isEmpty) return;
    if (this.sources.used > 0) this.sources.sweep(256, nowSec - ttlSec, nowSec, this.#expireSource);
    if (this.outputs.used > 0) this.outputs.sweep(64, nowSec - ttlSec, this.#expireOutput);
  }

  /** Begins a request. @returns its mark */
  begin(): TrackerMark {
    this.#settle();
    this.#request++;
    this.#claimed = this.#outputsChanged = this.skewed = 0;
    this.#written.set(0, 0);
    this.#mark = this.mark();
    return this.#mark;
  }

  mark(): TrackerMark {
    return {
      request: this.#request,
      sources: this.#sourceJournal.mark(),
      outputs: this.#outputJournal.mark(),
      hasEnded: false,
    };
  }

  /** Undoes all requests from `mark` on. */
  undo(mark: TrackerMark): void {
    this.#sourceJournal.undo(mark.sources, this.sources.words, (at) => {
      if ((this.sources.words[at + SOURCE_FLAGS]! & GONE) !== 0) this.sources.remove(at);
    });
    this.#outputJournal.undo(mark.outputs, this.outputs.words, (at) => {
      const output = this.outputs.at(at);
      if (output.isNew) this.outputs.remove(output);
    });
    this.#settle();
  }

  /**
   * Makes the oldest open request final.
   * @param end mark of the next one
   * @param claimed its `claims`, whose memory is reused
   */
  keep({ hasEnded }: TrackerMark, end: TrackerMark, claimed: Buffer): void {
    if (hasEnded) this.#dropEnded(end);
    this.#claims.release(claimed);
    this.#sourceJournal.keep(end.sources);
    this.#outputJournal.keep(end.outputs);
    this.#settle();
  }

  #dropEnded(end: TrackerMark): void {
    const { words } = this.sources;
    const journal = this.#sourceJournal;
    const { words: records } = journal;
    for (let i = journal.oldest, to = journal.first(end.sources); i < to; i += journal.recordWords) {
      const at = records[i]!;
      if ((words[at + SOURCE_FLAGS]! & GONE) === 0) continue;
      // A source ended by a later request must remain restorable until that is kept.
      if (words[at + CHANGED_BY]! <= end.request) this.#dropSource(at);
    }
  }

  #settle(): void {
    if (this.#sourceJournal.isEmpty) this.#settled = this.#request;
  }

  /** The sources that the current request has advanced; see source-claims.ts. */
  claims(): Buffer {
    const { words } = this.sources;
    const journal = this.#sourceJournal;
    const { words: records, end, recordWords } = journal;
    const first = journal.first(this.#mark.sources);
    const writer = this.#claims;
    const { cells } = this.arena;
    if (first === end) return NOTHING;
    writer.begin((end - first) / recordWords, words[records[first]! + CELLS]!);
    for (let i = first; i < end; i += recordWords) writer.add(words, records[i]!, records, i + BEFORE, cells);
    this.#mark.hasEnded = writer.hasEnded;
    return writer.end();
  }

  /** Latest time that the current request writes into a cumulative stream, Unix ms; 0 if it writes none. */
  get writtenMs(): number {
    const { ms } = this.#written;
    return ms === 0 ? 0 : ms + 1;
  }

  /** The levels of this writer that the current request has changed. */
  levelClaims(): LevelClaim[] {
    const claims: LevelClaim[] = [];
    const { words, end, recordWords } = this.#outputJournal;
    for (let i = this.#outputJournal.first(this.#mark.outputs); i < end; i += recordWords) {
      const output = this.outputs.at(words[i]!);
      if (output.isLevel) claims.push({ field: fieldOf(output.lo, output.hi), value: levelOf(output) });
    }
    return claims;
  }

  /**
   * Sets the ledger's entry of a source. Only while no request is open.
   * @param bytes undefined if there is none
   */
  learn(field: Buffer, bytes: Buffer | undefined): void {
    const lo = field.readInt32LE(0);
    const hi = field.readInt32LE(4);
    const found = this.sources.find(lo, hi);
    if (found >= 0) this.#dropSource(found);
    if (!bytes) return;
    const at = this.#insert(lo, hi);
    if (
      at >= 0 &&
      !unpackSource(bytes, this.sources.words, at, (cells) => this.#take(cells), this.arena.cells)
    )
      this.sources.remove(at);
  }

  /** Every source in the ledger's format. Only while no request is open. */
  allSources(): [field: Buffer, value: Buffer][] {
    const { words } = this.sources;
    const writer = new SourceClaimWriter();
    writer.begin(this.sources.used, 0);
    this.sources.forEach((at) => {
      writer.addNew(words, at, this.arena.cells);
    });
    return sourceClaims(writer.end()).map(({ field, value }) => [field, value]);
  }

  /** Every level of this writer, as it is claimed. */
  allLevels(): [field: Buffer, value: Buffer][] {
    const all = new Map(this.#levels);
    for (const output of this.outputs.all())
      if (output.live && output.isLevel)
        all.set(fieldOf(output.lo, output.hi).toString('latin1'), levelOf(output));
    return [...all]
      .filter(([, value]) => value.length > 0)
      .map(([field, value]) => [Buffer.from(field, 'latin1'), value]);
  }

  /** Whether a source is new and there is no room for it. */
  isFull(sourceAt: number): boolean {
    const { sources } = this;
    if (sourceAt >= 0) return false;
    return this.#claimed >= sources.maxSources || this.ledgerSources + this.#claimed >= this.#maxLedger;
  }

  /** Whether this source goes into the overflow stream of its metric. */
  overflows(sourceAt: number): boolean {
    return (this.sources.words[sourceAt + SOURCE_FLAGS]! & OVERFLOW) !== 0;
  }

  /** The output stream of this hash, created if there is room. */
  output(lo: number, hi: number, isLevel: boolean): Output | undefined {
    let output = this.outputs.find(lo, hi);
    if (!output) {
      output = this.outputs.insert(lo, hi);
      if (!output) return undefined;
      output.isNew = true;
      this.#remember(output);
      output.isNew = false;
      const start = isLevel ? this.#levelStart : this.#start;
      output.startLo = start.lo;
      output.startHi = start.hi;
      output.isDelta = this.#deltas && !isLevel;
      if (isLevel) {
        output.isLevel = true;
        resumeLevel(output, this.#levels.get(fieldOf(lo, hi).toString('latin1')));
      }
    }
    output.seenSec = this.#nowSec;
    return output;
  }

  addNumber(to: Contribution, point: NumberPoint): Outcome {
    const { words } = this.sources;
    const { output } = to;
    const at = this.#source(to);
    if (at < 0) return 'full';
    now.set(point.isInt, point.lo, point.hi);
    last.set((words[at + SOURCE_FLAGS]! & INTEGER) !== 0, words[at + VALUE]!, words[at + VALUE + 1]!);
    const isKnown = (words[at + SOURCE_FLAGS]! & GONE) === 0;
    const time = this.#timeOf(point);
    let relation = this.#relation(to, at, point, time, isKnown);
    if (relation === STALE) return 'stale';
    if (relation === DIFFERENCE && to.isMonotonic && now.lessThan(last)) relation = FULL;
    this.#remember(output);
    output.readValue(total);
    if (!to.isMonotonic) {
      // A level: replace this source's previous contribution.
      total.add(now);
      if (isKnown) total.subtract(last);
    } else if (relation === DIFFERENCE) total.add(difference.copy(now).subtract(last));
    else if (relation < BASELINE) total.add(now);
    output.writeValue(total);
    this.#note(to, at, point, time, relation, (point.isInt ? INTEGER : 0) | (to.isMonotonic ? 0 : LEVEL));
    words[at + VALUE] = point.lo;
    words[at + VALUE + 1] = point.hi;
    return relation === UNKNOWN ? 'unknown' : 'added';
  }

  /** Ends a level whose source reports no value any more. The ledger may have it even if it is unknown here. */
  endLevel(to: Contribution, point: NumberPoint): Outcome {
    const { words } = this.sources;
    const at = this.#source(to);
    if (at < 0) return 'full';
    if ((words[at + SOURCE_FLAGS]! & GONE) !== 0) {
      if (to.wasForwarded) words[at + SOURCE_FLAGS]! |= FORWARDED;
      return 'stale';
    }
    const { lo, hi } = this.#timeOf(point);
    if (!lessThan(words[at + TIME]!, words[at + TIME + 1]!, lo, hi)) return 'stale';
    this.#takeOff(at, to.output);
    return 'added';
  }

  addHistogram(to: Contribution, point: HistogramPoint): Outcome {
    const { output } = to;
    if (output.isDelta) this.#remember(output);
    const length = 2 + point.buckets;
    if (!this.#fitBounds(output, point, length)) return output.block === 0 ? 'full' : 'bounds';
    const at = this.#source(to);
    if (at < 0) return 'full';
    const { words } = this.sources;
    const { cells } = this.arena;
    const isKnown = (words[at + SOURCE_FLAGS]! & GONE) === 0;
    const time = this.#timeOf(point);
    let relation = this.#relation(to, at, point, time, isKnown);
    if (relation === STALE) return 'stale';
    let block = words[at + BLOCK]!;
    const sameBounds = words[at + CELLS] === length && words[at + VALUE] === point.boundsLo;
    if (block === 0 || !sameBounds) {
      block = this.#sourceBlock(at, length);
      if (block === 0) return this.#noRoom(at, isKnown);
      // Bounds changed, so there is no previous value to subtract. A histogram does not change its bounds, so its producer was
      // restarted: count the whole value.
      if (relation === DIFFERENCE) relation = FULL;
    }
    if (relation === DIFFERENCE && this.#fell(block, point)) relation = FULL;
    this.#remember(output);
    if (relation < BASELINE) {
      const keep = relation === DIFFERENCE ? 1 : 0;
      const sums = output.block;
      cells[sums]! += point.count - keep * cells[block]!;
      cells[sums + 1] = addDoubles(cells[sums + 1]!, addDoubles(point.sum, -keep * cells[block + 1]!));
      for (let i = 0; i < point.buckets; i++)
        cells[sums + 2 + i]! += point.counts[i]! - keep * cells[block + 2 + i]!;
    }
    if (!point.hasSum) output.withoutSum();
    this.#note(to, at, point, time, relation, 0);
    words[at + VALUE] = point.boundsLo;
    words[at + VALUE + 1] = point.boundsHi;
    cells[block] = point.count;
    cells[block + 1] = point.sum;
    for (let i = 0; i < point.buckets; i++) cells[block + 2 + i] = point.counts[i]!;
    return relation === UNKNOWN ? 'unknown' : 'added';
  }

  addExponential(to: Contribution, point: ExponentialPoint): Outcome {
    const { output } = to;
    const at = this.#source(to);
    if (at < 0) return 'full';
    const { words } = this.sources;
    const isKnown = (words[at + SOURCE_FLAGS]! & GONE) === 0;
    const time = this.#timeOf(point);
    let relation = this.#relation(to, at, point, time, isKnown);
    if (relation === STALE) return 'stale';
    let increment = point.value;
    if (relation === DIFFERENCE) {
      const before = readExponential(this.arena.cells, words[at + BLOCK]!);
      const added = subtractExponential(point.value, before);
      if (added) increment = added;
      else relation = FULL;
    }
    if (output.isDelta) this.#remember(output);
    // The stored histogram may be scaled down to fit; the next difference is then computed at that scale.
    const stored = addExponential(point.value, emptyExponential(point.value.scale));
    const before =
      output.block === 0
        ? emptyExponential(point.value.scale)
        : readExponential(this.arena.cells, output.block);
    const grown = relation < BASELINE ? addExponential(before, increment) : before;
    const needed = exponentialCells(grown);
    const block = this.#sourceBlock(at, exponentialCells(stored));
    if (block === 0) return this.#noRoom(at, isKnown);
    this.#remember(output);
    if (!this.#fitOutput(output, needed)) return this.#noRoom(at, isKnown);
    writeExponential(this.arena.cells, output.block, grown);
    writeExponential(this.arena.cells, block, stored);
    if (!point.value.hasSum) output.withoutSum();
    this.#note(to, at, point, time, relation, 0);
    return relation === UNKNOWN ? 'unknown' : 'added';
  }

  /** Time of a sent point: `time` advances, no further than the clock, and always forward. */
  advance(output: Output, timeLo: number, timeHi: number): void {
    this.#remember(output);
    const time = moment.set(timeLo, timeHi).min(this.#now.lo, this.#now.hi);
    // A level that is continued after a restart has an earlier start than its writer.
    const floor = output.fresh ? this.#start : { lo: output.timeLo, hi: output.timeHi };
    if (!lessThan(floor.lo, floor.hi, time.lo, time.hi)) {
      // By whole milliseconds if possible, since some backends keep no more.
      const isFarAhead = this.#aheadMost.isBefore(floor.lo, floor.hi);
      time.set(floor.lo, floor.hi).add(isFarAhead ? 1000 : 1_000_000);
    }
    output.timeLo = time.lo;
    output.timeHi = time.hi;
    this.#written.max(time.lo, time.hi);
    this.#latest.max(time.lo, time.hi);
  }

  /**
   * The same for an increment: it begins where the stream's previous one ended, and ends later.
   * @returns whether its start or time was moved
   */
  follow(output: Output, point: Dated): boolean {
    this.#remember(output);
    const { startLo, startHi, timeLo, timeHi } = point;
    const time = this.#timeOf(point);
    const isDated = startLo !== 0 || startHi !== 0;
    if (isDated && time.isBefore(startLo, startHi)) {
      // The time was replaced, so the start is moved with it: no point may begin after its end.
      const length = interval.set(timeLo, timeHi).minus(startLo, startHi);
      const start = begin.copy(time).minus(length.lo, length.hi);
      point.startLo = start.lo;
      point.startHi = start.hi;
    }
    if (!output.fresh) {
      if (isDated && lessThan(point.startLo, point.startHi, output.timeLo, output.timeHi)) {
        point.startLo = output.timeLo;
        point.startHi = output.timeHi;
      }
      if (!lessThan(output.timeLo, output.timeHi, time.lo, time.hi))
        time
          .set(output.timeLo, output.timeHi)
          .add(this.#aheadMost.isBefore(output.timeLo, output.timeHi) ? 1000 : 1_000_000);
    }
    output.timeLo = point.timeLo = time.lo;
    output.timeHi = point.timeHi = time.hi;
    return point.startLo !== startLo || point.startHi !== startHi || time.lo !== timeLo || time.hi !== timeHi;
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
      if (isEnded && (words[at + SOURCE_FLAGS]! & GONE) === 0) this.#takeOff(at, output);
    }
  }

  /** How the point relates to the source's last one; never DIFFERENCE for an unknown source. */
  #relation(to: Contribution, at: number, point: Point, { lo, hi }: Nanoseconds, isKnown: boolean): number {
    const { words } = this.sources;
    if (isKnown) {
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
    if (!to.isMonotonic) return FULL;
    if (to.wasForwarded) return BASELINE;
    return this.#history.isNew(to.resource, point) ? FULL : UNKNOWN;
  }

  /** The point's time, or the receiver's if it is missing or far ahead. */
  #timeOf({ timeLo, timeHi }: Pick<Point, 'timeLo' | 'timeHi'>): Nanoseconds {
    const isBelieved = (timeLo !== 0 || timeHi !== 0) && !this.#believed.isBefore(timeLo, timeHi);
    return isBelieved ? moment.set(timeLo, timeHi) : moment.copy(this.#now);
  }

  /** The source of a contribution, created if there is room; the caller may change it. */
  #source(to: Contribution): number {
    const { sources } = this;
    let at = sources.find(to.sourceLo, to.sourceHi, to.sourceAt);
    if (at < 0) {
      at = this.isFull(at) ? -1 : this.#insert(to.sourceLo, to.sourceHi);
      if (at < 0) return -1;
      sources.words[at + SOURCE_FLAGS] = LIVE | GONE;
    }
    this.#rememberSource(at);
    return at;
  }

  /** Inserts a source; one that the ledger has too is evicted if needed. @returns -1 if open requests use all of them */
  #insert(lo: number, hi: number): number {
    const { sources } = this;
    if (sources.used >= sources.maxSources) {
      const oldest = sources.oldest(this.#settled);
      if (oldest < 0) return -1;
      this.sourceEvictions++;
      this.#dropSource(oldest);
    }
    return sources.insert(lo, hi);
  }

  #rememberSource(at: number): void {
    const { words } = this.sources;
    if (words[at + CHANGED_BY] === this.#request) return;
    this.#sourceJournal.remember(words, at);
    // Only the first point of a stream in a request hands it over, so the flag stays for those that follow in the same request.
    words[at + SOURCE_FLAGS]! &= ~FORWARDED;
    words[at + CHANGED_BY] = this.#request;
    words[at + CLAIM_AT] = this.#claimed++;
  }

  #remember(output: Output): void {
    if (output.changedBy === this.#request) return;
    this.#outputJournal.remember(this.outputs.words, output.at);
    output.changedBy = this.#request;
    output.record = this.#outputsChanged++;
    if (!output.isDelta) return;
    output.empty();
    if (output.block !== 0) this.#outputJournal.freeLater(output.block, output.cells);
    output.block = output.cells = 0;
  }

  #note(
    to: Contribution,
    at: number,
    point: Point,
    { lo, hi }: Nanoseconds,
    relation: number,
    flags: number,
  ): void {
    const { words } = this.sources;
    if (lo !== point.timeLo || hi !== point.timeHi) this.skewed++;
    words[at + SOURCE_FLAGS] =
      LIVE |
      flags |
      (to.overflow ? OVERFLOW : 0) |
      (to.converted ? CONVERTED : 0) |
      (to.wasForwarded ? FORWARDED : words[at + SOURCE_FLAGS]! & FORWARDED);
    words[at + SEEN] = this.#nowSec;
    // A point without a start that continues a life keeps the known one.
    if (relation !== DIFFERENCE || !isMissing(point.startLo, point.startHi)) {
      words[at + START] = point.startLo;
      words[at + START + 1] = point.startHi;
    }
    words[at + TIME] = lo;
    words[at + TIME + 1] = hi;
    words[at + INTO] = to.intoLo;
    words[at + INTO + 1] = to.intoHi;
  }

  #fell(block: number, point: HistogramPoint): boolean {
    const { cells } = this.arena;
    if (point.count < cells[block]!) return true;
    for (let i = 0; i < point.buckets; i++) if (point.counts[i]! < cells[block + 2 + i]!) return true;
    return false;
  }

  /** Whether the point has the output's bounds. The first point sets them; they change once none has matched for 5 minutes. */
  #fitBounds(output: Output, point: HistogramPoint, length: number): boolean {
    const same =
      output.block !== 0 &&
      output.boundsLo === point.boundsLo &&
      output.boundsHi === point.boundsHi &&
      output.cells === length;
    if (!same) {
      if (output.block !== 0 && this.#nowSec - output.boundsSeenSec < 300) return false;
      this.#remember(output);
      const anew = output.block !== 0;
      if (!this.#fitOutput(output, length)) return false;
      if (anew) {
        output.startLo = output.timeLo; // restart it where the old one ended
        output.startHi = output.timeHi;
      }
      this.arena.cells.fill(0, output.block, output.block + length);
      output.boundsLo = point.boundsLo;
      output.boundsHi = point.boundsHi;
    }
    output.boundsSeenSec = this.#nowSec;
    return true;
  }

  /** A block of so many cells for a source that is in the journal; 0 if there is no room, and the source is unchanged. */
  #sourceBlock(at: number, needed: number): number {
    const { words } = this.sources;
    const block = words[at + BLOCK]!;
    const before = this.#sourceJournal.blockBefore(this.#mark.sources, words[at + CLAIM_AT]!);
    const fitting = this.#replace(this.#sourceJournal, block, words[at + CELLS]!, before, needed);
    if (fitting === 0) return 0;
    words[at + BLOCK] = fitting;
    words[at + CELLS] = needed;
    return fitting;
  }

  /** Gives an output that is in the journal a block of so many cells. @returns false if there is no room */
  #fitOutput(output: Output, needed: number): boolean {
    const before = this.#outputJournal.blockBefore(this.#mark.outputs, output.record);
    const fitting = this.#replace(this.#outputJournal, output.block, output.cells, before, needed);
    if (fitting === 0) return false;
    output.block = fitting;
    output.cells = needed;
    return true;
  }

  /** @returns a block for `needed` cells: the same one if its size fits, or a new one; 0 if there is no room */
  #replace(journal: Journal, block: number, cells: number, before: number, needed: number): number {
    if (block !== 0 && sameSize(needed, cells)) return block;
    const fitting = this.#take(needed);
    if (fitting === 0) return 0;
    if (block !== 0) {
      if (block === before) journal.freeLater(block, cells);
      else this.arena.give(block, cells);
    }
    return fitting;
  }

  /** Allocates a block; sources that the ledger has too are evicted if needed. @returns 0 if there is no room */
  #take(cells: number): number {
    let block = this.arena.take(cells);
    for (let tries = 0; block === 0 && tries < EVICTIONS_MAX; tries++) {
      const oldest = this.sources.oldest(this.#settled);
      if (oldest < 0) break;
      this.sourceEvictions++;
      this.#dropSource(oldest);
      block = this.arena.take(cells);
    }
    return block;
  }

  /** Handles a source for which there is no room: removes it if it was new. */
  #noRoom(at: number, isKnown: boolean): Outcome {
    if (!isKnown) this.sources.words[at + SOURCE_FLAGS]! |= GONE;
    return 'full';
  }

  /** Subtracts a level from the output and ends its source. */
  #takeOff(at: number, output: Output): void {
    const { words } = this.sources;
    this.#remember(output);
    this.#rememberSource(at);
    last.set((words[at + SOURCE_FLAGS]! & INTEGER) !== 0, words[at + VALUE]!, words[at + VALUE + 1]!);
    output.writeValue(output.readValue(total).subtract(last));
    words[at + SOURCE_FLAGS]! |= GONE;
  }

  /** Expires a source, which the ledger keeps. A level must be subtracted from its output first. */
  #expireSource = (at: number): void => {
    const { words } = this.sources;
    if ((words[at + SOURCE_FLAGS]! & LEVEL) !== 0) {
      const [lo, hi] = [words[at]!, words[at + 1]!];
      const ended = this.#ended;
      for (let i = 0; i < ended.length; i += 2) if (ended[i] === lo && ended[i + 1] === hi) return;
      if (ended.length < ENDED_MAX) ended.push(lo, hi);
      return;
    }
    this.sourceEvictions++;
    this.#dropSource(at);
  };

  #dropSource(at: number): void {
    const { words } = this.sources;
    const block = words[at + BLOCK]!;
    if (block !== 0) this.arena.give(block, words[at + CELLS]!);
    this.sources.remove(at);
  }

  /** A stream of this hash that comes later is a new one, and starts later. */
  #expireOutput = (output: Output): void => {
    this.outputEvictions++;
    this.#removeOutput(output);
  };

  #setAside(level: Output): void {
    const field = fieldOf(level.lo, level.hi).toString('latin1');
    const value = levelOf(level);
    if (value.length === 0) this.#levels.delete(field);
    else this.#levels.set(field, value);
  }

  #removeOutput(output: Output): void {
    // Sources may still be part of the level, so keep its value.
    if (output.isLevel) this.#setAside(output);
    if (output.block !== 0) this.arena.give(output.block, output.cells);
    this.#start.max(output.timeLo, output.timeHi);
    this.outputs.remove(output);
  }
}

function isMissing(startLo: number, startHi: number): boolean {
  return startLo === 0 && startHi === 0;
}
