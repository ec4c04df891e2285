import { setTimeout as wait } from 'node:timers/promises';
import { type ContentEncoding, encodeContent, type Signal } from '@nrdot/otlp';
import {
  type BreakerState,
  type Failed,
  FairShare,
  foldKey,
  isPriorityClass,
  type PriorityClass,
  type Store,
} from '@nrdot/queue';
import { AREAS, type Area, type Entry, oneByOne, type Position, type SegmentLog } from '@nrdot/segment-log';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { EarlierOutcomes, replayKey } from './earlier-outcomes.ts';
import { type Failure, Failures } from './failures.ts';
import type { ReplayRate } from './replay-rate.ts';
import { RoundTrips } from './round-trips.ts';
import { isSelected, REPLAY_AREAS, type Selection } from './selection.ts';

export interface ReplayerDeps {
  store: Store;
  segments: SegmentLog;
  rate: ReplayRate;
  weights: Record<PriorityClass, number>;
  /** A batch is rejected after so many failed replays while others of its signal are delivered. */
  poisonAfter: number;
  log: Logger;
  metrics: Metrics;
  /** Called when something on disk was acknowledged. */
  changed(): void;
  now(): number;
}

interface Outstanding {
  position: Position;
  area: Area;
  signal: string;
  /** Successes of its destination before it was sent. */
  passedBefore: number;
  bytes: number;
  items: number;
  sinceMs: number;
}

interface Order extends Selection {
  /** Last segment of each area at the time of the order. */
  upTo: ReadonlyMap<Area, number>;
  givenAtMs: number;
}

/** Maximum number of batches in Redis: enough to keep exporters busy, few enough to keep memory flat. */
const OUTSTANDING_MAX = 128;
const OUTSTANDING_MAX_BYTES = 8 * 1024 * 1024;
const OUTCOMES_AT_ONCE = 512;
/** Maximum number of records skipped in one step because their signal may not be sent, to reach those of other signals. */
const PASS_OVER_MAX = 16;
const BUSY_MS = 50;
const IDLE_MS = 500;
/** After so many checks with nothing on disk and nothing in flight the replayer rests until it is woken. */
const REST_AFTER_LOOKS = 20;
const REST_MS = 5_000;
const GATE_MS = 250;
const ADAPT_MS = 1_000;
/** After so long without an outcome, Redis is asked whether it still has the batch: it may have lost its data. */
const MISSING_AFTER_MS = 30_000;
/** After so long, a batch that the disk did not let into the rejected area is moved again. */
const REJECT_AGAIN_MS = 5_000;
/** Share of 429s above which replay slows down. */
const CROWDED = 0.05;
/** Outcomes of an earlier run stay in Redis until their records are read; at most so many, as no run has more in flight. */
const OUTCOMES_KEPT_MAX = 1_000;

/**
 * Replays batches from the disk: oldest first within a class, 5:3:1 between classes, within the rate limit, and only while the
 * breaker permits. A record is acknowledged once the upstream has accepted its batch.
 */
export class Replayer {
  readonly #d: ReplayerDeps;
  readonly #share: FairShare;
  readonly #outstanding = new Map<string, Outstanding>();
  readonly #peeked = new Map<Area, Entry>();
  readonly #doneBefore: EarlierOutcomes;
  readonly #rewind = new Set<Area>();
  readonly #failures = new Failures();
  /** When a record that was skipped because it must wait may be read again, by area; Unix ms. */
  readonly #readAgainAt = new Map<Area, number>();
  readonly #done: Promise<void>;
  /** Payload bytes replayed, uncompressed. */
  replayedBytes = 0;
  /** Items of replayed batches that no longer need the disk; failed probes do not count. */
  returnedItems = 0;
  #outstandingBytes = 0;
  /** Index of the first outcome that was not processed. Earlier ones stay in Redis until their effect is on the disk. */
  #nextOutcome = 0;
  /** Index of the oldest outcome in Redis. A Redis that was restored may have some again that it was told to forget. */
  #firstOutcome = 0;
  /** By signal: the state of the breaker, and how many successes its destination has had. */
  #gate = {
    signals: new Map<string, { state: BreakerState; passed: number }>(),
    paused: false,
    crowded: false,
  };
  /** Areas with records that were skipped because their breaker is open. */
  readonly #heldBack = new Set<Area>();
  readonly #roundTrips = new RoundTrips();
  #gateAt = Number.NEGATIVE_INFINITY;
  #adaptedAt = 0;
  #lostCheckAt = 0;
  #order: Order | undefined;
  /** Serialises sending and operators' commands. */
  readonly #alone = oneByOne();
  #stopping = new AbortController();
  #resting = new AbortController();
  #looksInVain = 0;

  constructor(deps: ReplayerDeps) {
    this.#d = deps;
    this.#share = new FairShare(deps.weights);
    this.#doneBefore = new EarlierOutcomes(deps.segments);
    this.#done = this.#run();
  }

  /** Sets the weights, from the next batch on. */
  setWeights(weights: ReplayerDeps['weights']): void {
    this.#share.setWeights(weights);
  }

  get outstanding(): number {
    return this.#outstanding.size;
  }

  get paused(): boolean {
    return this.#gate.paused;
  }

  /** Whether batches of an area may be replayed now, rather than only skipped. */
  isGoing(area: Area): boolean {
    if (this.#allOpen || (this.#gate.paused && !this.#order)) return false;
    return !this.#heldBack.has(area) || this.#peeked.has(area) || this.#isBusy(area);
  }

  /** What an operator has ordered to be replayed, beyond what replays by itself; until all of it was accepted or has failed. */
  get order(): Selection | undefined {
    return this.#order;
  }

  /**
   * Replays the batches that an order names, also while replay is paused, and rejected ones if it names their area: those that
   * are there now, each once. A batch that is rejected again waits for another order.
   */
  replay(order: Selection): Promise<void> {
    return this.#alone(async () => {
      const { segments } = this.#d;
      const upTo = new Map<Area, number>();
      for (const area of order.areas) {
        await segments.seal(area);
        const sequences = segments.segments().filter((segment) => segment.area === area);
        upTo.set(area, Math.max(0, ...sequences.map(({ sequence }) => sequence)));
        await this.#startOver(area);
      }
      this.#order = { ...order, upTo, givenAtMs: this.#d.now() };
      this.wake();
    });
  }

  /** Once it resolves, nothing is sent until replay is resumed or ordered. Batches in Redis are not stopped. */
  pause(paused: boolean): Promise<void> {
    return this.#alone(async () => {
      await this.#d.store.pauseReplay(paused);
      this.#gate.paused = paused;
      if (!paused) {
        // Read again what was skipped before or meanwhile.
        for (const area of REPLAY_AREAS) this.#rewind.add(area);
        this.wake();
        return;
      }
      if (!this.#order) return;
      for (const area of this.#order.areas) this.#rewind.add(area);
      this.#order = undefined;
    });
  }

  /**
   * Drops everything in some areas except batches in flight, which will be delivered or return.
   * @returns dropped items, and items in flight
   */
  purge(areas: readonly Area[]): Promise<{ items: number; heldItems: number }> {
    return this.#alone(async () => {
      const purged = { items: 0, heldItems: 0 };
      for (const area of areas) {
        await this.#startOver(area);
        const { items, heldItems } = await this.#d.segments.purge(area);
        purged.items += items;
        purged.heldItems += heldItems;
      }
      this.#d.changed();
      return purged;
    });
  }

  /** To be called when there may be something to replay; ends a rest at once. */
  wake(): void {
    this.#looksInVain = 0;
    this.#resting.abort();
  }

  /** Processes all outcomes. @returns index of the next one */
  caughtUp(): Promise<number> {
    return this.#alone(async () => {
      await this.#takeOutcomes();
      return this.#nextOutcome;
    });
  }

  /** Redis has lost its data: batches that it had from the disk are replayed again. */
  redisLost(): Promise<void> {
    this.wake();
    return this.#alone(() => this.#findLost(0));
  }

  /** Stops reading from the disk; batches in Redis are not stopped. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.wake();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let pauseMs = IDLE_MS;
      try {
        pauseMs = await this.#alone(async () => {
          await this.#takeOutcomes();
          return this.#step();
        });
      } catch (error) {
        this.#d.log.debug({ err: (error as Error).message }, 'replay waits');
      }
      if (pauseMs === IDLE_MS && this.#nothingToDo) this.#looksInVain++;
      else this.#looksInVain = 0;
      if (this.#looksInVain > REST_AFTER_LOOKS) await this.#rest();
      else if (pauseMs > 0) await wait(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  get #nothingToDo(): boolean {
    const { segments } = this.#d;
    const onDisk = REPLAY_AREAS.some((area) => segments.stats(area).items > 0);
    return !onDisk && this.#outstanding.size === 0 && this.#order === undefined;
  }

  /** Rests until woken: checking twice a second while there is usually nothing took a quarter of an idle process's CPU. */
  async #rest(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#resting = new AbortController();
    await wait(REST_MS, undefined, { signal: this.#resting.signal }).catch(() => {});
  }

  /** @returns how long to wait before the next step, in ms */
  async #step(): Promise<number> {
    const { rate, now } = this.#d;
    if (this.#doneBefore.isSearchDue(now())) {
      await this.#doneBefore.searchRejected(now(), (position) => this.#finish(position));
      await this.#startOver('rejected');
    }
    await this.#readGate();
    if (now() - this.#lostCheckAt > MISSING_AFTER_MS) await this.#findLost(MISSING_AFTER_MS);
    if (this.#allOpen) return IDLE_MS;
    const waitingMs = this.#outstanding.size > 0 || this.#heldBack.size > 0 ? BUSY_MS : IDLE_MS;
    if (this.#outstanding.size >= OUTSTANDING_MAX || this.#outstandingBytes >= OUTSTANDING_MAX_BYTES)
      return waitingMs;
    const area = await this.#pick();
    if (!area) return waitingMs;
    const entry = this.#peeked.get(area)!;
    const bytes = entry.record.payload.byteLength;
    const waitMs = rate.take(bytes, now());
    if (waitMs > 0) return Math.min(waitMs, BUSY_MS);
    await this.#send(area, entry);
    return 0;
  }

  async #pick(): Promise<Area | undefined> {
    for (const [area, atMs] of [...this.#readAgainAt]) {
      if (this.#d.now() < atMs) continue;
      this.#readAgainAt.delete(area);
      this.#rewind.add(area);
    }
    for (const area of [...this.#rewind]) if (!this.#isBusy(area)) await this.#readAgain(area);
    const ready = new Set<Area>();
    let isRead = true;
    for (const area of AREAS) {
      const found = await this.#peek(area);
      if (found === 'ready') ready.add(area);
      if (found !== 'end') isRead = false;
      // At its end, an area with returned batches is read again at once, even while others are in flight.
      else if (this.#rewind.has(area)) await this.#readAgain(area);
    }
    if (isRead) this.#seekProbe();
    if (isRead && !this.#gate.paused && this.#rewind.size === 0) this.#doneBefore.allRead();
    // A batch in Redis may still return untried from a breaker that opens: then the order is not complete.
    const isOver = (area: Area) => !ready.has(area) && !this.#isPartlyRead(area) && !this.#isBusy(area);
    if (this.#order?.areas.every(isOver)) {
      // All that the order named was accepted or has failed; what it skipped is read again in turn.
      for (const area of this.#order.areas) this.#rewind.add(area);
      this.#order = undefined;
      this.#d.log.info('the requested replay has finished');
    }
    return this.#share.pick((c) => ready.has(c)) ?? (ready.has('rejected') ? 'rejected' : undefined);
  }

  get #allOpen(): boolean {
    return [...this.#gate.signals.values()].every(({ state }) => state === 'open');
  }

  #stateOf(signal: string): BreakerState {
    return this.#gate.signals.get(signal)?.state ?? 'closed';
  }

  /** Whether a batch of this signal may be sent: none while its breaker is open, one while it is half-open. */
  #mayGo(signal: string): boolean {
    const state = this.#stateOf(signal);
    if (state !== 'half_open') return state === 'closed';
    return ![...this.#outstanding.values()].some((outstanding) => outstanding.signal === signal);
  }

  /** Whether an area has records that must be read again later. */
  #isPartlyRead(area: Area): boolean {
    return this.#readAgainAt.has(area) || this.#heldBack.has(area) || this.#rewind.has(area);
  }

  #isBusy(area: Area): boolean {
    return [...this.#outstanding.values()].some((outstanding) => outstanding.area === area);
  }

  /** If there is nothing else to read, a half-open breaker gets its probe from the skipped records. */
  #seekProbe(): void {
    const wanted = [...this.#gate.signals].some(
      ([signal, { state }]) => state === 'half_open' && this.#mayGo(signal),
    );
    if (!wanted) return;
    for (const area of this.#heldBack) this.#rewind.add(area);
    this.#heldBack.clear();
  }

  /** Skips a record. It is read again when its breaker has closed, or for a probe if nothing is behind it. */
  #passOver({ position }: Entry): void {
    this.#d.segments.release(position);
    this.#heldBack.add(position.area);
  }

  /** Skips a record that is read again at a time of its own; Unix ms. */
  #passOverUntil({ position }: Entry, atMs: number): void {
    this.#d.segments.release(position);
    this.#readAgainAt.set(position.area, Math.min(atMs, this.#readAgainAt.get(position.area) ?? atMs));
  }

  async #readAgain(area: Area): Promise<void> {
    this.#rewind.delete(area);
    await this.#startOver(area);
  }

  /** @returns whether there is a batch to send, one may follow further on, or there is none */
  async #peek(area: Area): Promise<'ready' | 'more' | 'end'> {
    const ordered = this.#order?.areas.includes(area) ? this.#order : undefined;
    if (!ordered && (this.#gate.paused || area === 'rejected')) return 'end';
    const peeked = this.#peeked.get(area);
    if (peeked && !this.#mayGo(peeked.record.envelope.signal)) {
      this.#passOver(peeked);
      this.#peeked.delete(area);
    }
    let passedOver = 0;
    while (!this.#peeked.has(area)) {
      const entry = await this.#d.segments.read(area);
      if (!entry) return 'end';
      const key = replayKey(entry.record.envelope.id, area);
      if (this.#outstanding.has(key)) continue; // read again after a rewind while in flight
      if (this.#doneBefore.take(key)) {
        this.#finish(entry.position);
        continue;
      }
      if (!this.#mayGo(entry.record.envelope.signal)) {
        this.#passOver(entry);
        if (++passedOver >= PASS_OVER_MAX) return 'more';
        continue;
      }
      const failure = this.#failures.of(key);
      const isFresh = ordered && (failure?.atMs ?? 0) < ordered.givenAtMs;
      const isProbe = this.#stateOf(entry.record.envelope.signal) !== 'closed';
      const waitsUntilMs = (isProbe ? failure?.noProbeBeforeMs : failure?.notBeforeMs) ?? 0;
      if (waitsUntilMs > this.#d.now() && !isFresh) {
        this.#passOverUntil(entry, waitsUntilMs);
        continue;
      }
      if (failure && failure.whileOthersPassed >= this.#d.poisonAfter && area !== 'rejected') {
        await this.#reject(entry, failure);
        continue;
      }
      const isOrdered = !ordered || isNamed(ordered, entry, failure);
      if (isOrdered || (!this.#gate.paused && area !== 'rejected')) this.#peeked.set(area, entry);
      else this.#d.segments.release(entry.position);
    }
    return 'ready';
  }

  async #send(area: Area, { record, position }: Entry): Promise<void> {
    const { store, metrics, now } = this.#d;
    const { id, signal, items, receivedAt, encoding } = record.envelope;
    const priorityClass = isPriorityClass(record.envelope.class) ? record.envelope.class : 'normal';
    const plain = Buffer.from(record.payload.buffer, record.payload.byteOffset, record.payload.byteLength);
    const held = ['gzip', 'zstd'].includes(encoding) ? (encoding as ContentEncoding) : 'identity';
    const payload = await encodeContent(plain, held);
    const key = replayKey(id, area);
    const attempts = this.#failures.of(key)?.attempts ?? 0;
    if (this.#doneBefore.take(key)) {
      // An earlier run of the dlq had replayed it, and it was delivered after it was read here.
      this.#peeked.delete(area);
      this.#finish(position);
      return;
    }
    const batch = {
      ...{ id: key, signal: signal as Signal, class: priorityClass, origin: 'replay' as const },
      ...{ encoding: held, items, receivedAt, payload },
      attempts, // a batch that has failed before goes alone, so that it does not make others fail
    };
    const [[result] = []] = await store.enqueue([[batch]], now(), this.#nextOutcome);
    if (result !== 'queued' && result !== 'held') {
      await wait(IDLE_MS, undefined, { signal: this.#stopping.signal }).catch(() => {});
      return;
    }
    this.#peeked.delete(area);
    const passedBefore = this.#gate.signals.get(signal)?.passed ?? 0;
    this.#outstanding.set(key, {
      ...{ position, area, signal, passedBefore },
      ...{ bytes: plain.byteLength, items, sinceMs: now() },
    });
    this.#outstandingBytes += plain.byteLength;
    this.#share.served(priorityClass, items);
    metrics.dlqReplayedItems.inc({ class: priorityClass }, items);
    this.replayedBytes += plain.byteLength;
    metrics.dlqReplayedBytes.inc(plain.byteLength);
  }

  async #takeOutcomes(): Promise<void> {
    const { store } = this.#d;
    while (true) {
      const { outcomes, first, next } = await store.replayOutcomes(this.#nextOutcome, OUTCOMES_AT_ONCE);
      // Outcomes before `#nextOutcome` may be forgotten at any time: nothing may fail between setting it and their effects. The
      // breaker may have opened: read its state before sending more, which would return at once.
      if (outcomes.some(({ done }) => !done)) this.#gateAt = Number.NEGATIVE_INFINITY;
      if (outcomes.some(({ failed }) => failed)) await this.#readGate();
      [this.#firstOutcome, this.#nextOutcome] = [first, next];
      if (outcomes.length === 0) return;
      for (const [i, { done, key, failed }] of outcomes.entries()) {
        const outstanding = this.#outstanding.get(key);
        if (!outstanding) {
          if (done) this.#doneBefore.add(key, next - outcomes.length + i);
          continue;
        }
        this.#remove(key, outstanding);
        if (done) {
          this.#failures.forget(key);
          this.#finish(outstanding.position);
          this.returnedItems += outstanding.items;
          this.#roundTrips.add(this.#d.now() - outstanding.sinceMs);
        } else {
          this.#putBack(outstanding);
          if (failed) this.#hasFailed(key, outstanding, failed);
        }
      }
    }
  }

  /**
   * Writes the acknowledgements to disk, and only then lets Redis forget the outcomes: a kill at any time replays nothing that
   * was delivered, and counts nothing twice.
   */
  async checkpoint(): Promise<void> {
    const upTo = this.#actedOn();
    await this.#d.segments.checkpoint();
    if (upTo === this.#firstOutcome) return;
    await this.#d.store.forgetReplayOutcomes(upTo);
    this.#firstOutcome = upTo;
  }

  /** Index of the first outcome whose effect may not be on the disk. */
  #actedOn(): number {
    const { oldest = this.#nextOutcome } = this.#doneBefore;
    return Math.min(this.#nextOutcome, Math.max(oldest, this.#nextOutcome - OUTCOMES_KEPT_MAX));
  }

  #hasFailed(key: string, { signal, passedBefore }: Outstanding, failed: Failed): void {
    const { state = 'closed', passed = 0 } = this.#gate.signals.get(signal) ?? {};
    const meanwhile = { isOpen: state !== 'closed', othersPassed: passed > passedBefore };
    this.#failures.add(key, failed, meanwhile, this.#d.now());
  }

  /**
   * Moves a batch that fails in every replay, while others are delivered, to the rejected area, with its history. After a kill
   * between the two steps it is in both places, and the second step is repeated. While the disk does not accept it, it waits
   * where it is, and others go on.
   */
  async #reject(entry: Entry, failure: Failure): Promise<void> {
    const { segments, log, now } = this.#d;
    const { record, position } = entry;
    const { envelope, payload } = record;
    const id = foldKey(`${envelope.id}-poison`);
    const { times, attempts, message } = failure;
    try {
      if (!segments.lastIds.has(id)) {
        const said = `${times} replays with ${attempts} failed attempts while others were delivered; last: ${message}`;
        const rejected = { ...envelope, id, reason: 'rejected:poison', attempts, message: said };
        await segments.append('rejected', { envelope: rejected, payload });
      }
    } catch {
      return this.#passOverUntil(entry, now() + REJECT_AGAIN_MS); // the log has told of the fault
    }
    this.#failures.forget(replayKey(envelope.id, position.area));
    this.#finish(position);
    log.warn(
      { batch: envelope.id, items: envelope.items, attempts, said: message },
      'a batch fails while others are delivered; it goes to the rejected area',
    );
  }

  #finish(position: Position): void {
    this.#d.segments.ack(position);
    this.#d.changed();
  }

  #remove(key: string, { bytes }: Outstanding): void {
    this.#outstanding.delete(key);
    this.#outstandingBytes -= bytes;
  }

  /** Makes the batch be read again, once the current pass over its area is done. */
  #putBack({ position, area }: Outstanding): void {
    this.#d.segments.release(position);
    this.#rewind.add(area);
  }

  async #readGate(): Promise<void> {
    const { store, rate, metrics, now } = this.#d;
    if (now() - this.#gateAt < GATE_MS) return;
    const [breakers, paused] = await Promise.all([store.breakers(), store.replayPaused()]);
    const hasClosed = breakers.some(
      ({ signal, state }) => state === 'closed' && this.#gate.signals.get(signal)?.state !== 'closed',
    );
    if (hasClosed) {
      for (const area of [...this.#heldBack, ...this.#readAgainAt.keys()]) this.#rewind.add(area);
      this.#heldBack.clear();
      this.#readAgainAt.clear();
    }
    this.#gate = {
      signals: new Map(breakers.map(({ signal, state, okTotal }) => [signal, { state, passed: okTotal }])),
      paused,
      crowded: breakers.some(({ throttledShare }) => throttledShare > CROWDED),
    };
    this.#gateAt = now();
    if (now() - this.#adaptedAt >= ADAPT_MS) {
      const slow = this.#roundTrips.slow();
      rate.adapt(this.#gate.crowded ? 'throttled' : slow ? 'slow' : 'easy', now());
      this.#adaptedAt = now();
      metrics.dlqReplayRate.set(rate.bytesPerSecond);
    }
  }

  /** A Redis that has lost its data never reports an outcome for its batches. */
  async #findLost(outstandingForMs: number): Promise<void> {
    const { store, now, log } = this.#d;
    this.#lostCheckAt = now();
    const old = [...this.#outstanding].filter(([, { sinceMs }]) => now() - sinceMs >= outstandingForMs);
    if (old.length === 0) return;
    const held = await store.holds(old.map(([key]) => key));
    await this.#takeOutcomes();
    for (const [i, [key, outstanding]] of old.entries()) {
      if (held[i] || !this.#outstanding.has(key)) continue;
      this.#remove(key, outstanding);
      this.#putBack(outstanding);
      log.warn({ batch: key }, 'Redis has lost a replayed batch; it will be replayed again');
    }
  }

  async #startOver(area: Area): Promise<void> {
    const peeked = this.#peeked.get(area);
    if (peeked) this.#d.segments.release(peeked.position);
    this.#peeked.delete(area);
    await this.#d.segments.rewind(area);
  }
}

/** Whether an order still covers this record: it was there at the time of the order, and was not tried since. */
function isNamed(
  order: Order,
  { record, position: { area, sequence } }: Entry,
  failure: Failure | undefined,
): boolean {
  if (failure && failure.inVainAtMs >= order.givenAtMs) return false; // was tried since the order
  return sequence <= (order.upTo.get(area) ?? 0) && isSelected(order, record.envelope);
}
