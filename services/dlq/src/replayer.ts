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
import { AREAS, type Area, type Entry, type Position, type SegmentLog } from '@nrdot/segment-log';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { type Failure, Failures } from './failures.ts';
import type { ReplayRate } from './replay-rate.ts';
import { RoundTrips } from './round-trips.ts';
import { isSelected, REPLAY_AREAS, type Selection } from './selection.ts';

export interface ReplayerDeps {
  store: Store;
  segments: SegmentLog;
  rate: ReplayRate;
  weights: Record<PriorityClass, number>;
  /** Replays in vain, while others of its signal are delivered, after which a batch is rejected. */
  poisonAfter: number;
  log: Logger;
  metrics: Metrics;
  /** Something on disk is acknowledged. */
  changed(): void;
  now(): number;
}

interface Outstanding {
  position: Position;
  area: Area;
  signal: string;
  /** Good answers of its destination before it was sent. */
  passedBefore: number;
  bytes: number;
  items: number;
  sinceMs: number;
}

interface Order extends Selection {
  /** Last segment of each area when it was given. */
  upTo: ReadonlyMap<Area, number>;
  givenAtMs: number;
}

/** In Redis at once: enough to keep exporters busy, little enough to keep memory flat. */
const OUTSTANDING_MAX = 128;
const OUTSTANDING_MAX_BYTES = 8 * 1024 * 1024;
const OUTCOMES_AT_ONCE = 512;
/** Records of a signal that may not go which are read past in one step, on the way to those of others. */
const PASS_OVER_MAX = 16;
const BUSY_MS = 50;
const IDLE_MS = 500;
/** After so many looks with nothing on disk and nothing under way it rests: whoever puts something there wakes it. */
const REST_AFTER_LOOKS = 20;
const REST_MS = 5_000;
const GATE_MS = 250;
const ADAPT_MS = 1_000;
/** After this Redis is asked whether it still has a batch: it may have lost its memory. */
const MISSING_AFTER_MS = 30_000;
/** Share of 429 above which replay makes way. */
const CROWDED = 0.05;
const REMEMBERED_DONE = 10_000;
/** Outcomes that Redis keeps for records that are still to be read, at most. An earlier run had no more under way. */
const OUTCOMES_KEPT_MAX = 1_000;

/**
 * Brings batches from the disk back into the replay queues: oldest first within a class, 5:3:1 between them, under the
 * governor's rate, while the breaker lets anything through. A record is acknowledged when the upstream has taken it.
 */
export class Replayer {
  readonly #d: ReplayerDeps;
  readonly #share: FairShare;
  readonly #outstanding = new Map<string, Outstanding>();
  readonly #peeked = new Map<Area, Entry>();
  /** Batches that an earlier run of the dlq had put into Redis and that were delivered: the number of the outcome, by key. */
  readonly #doneBefore = new Map<string, number>();
  readonly #rewind = new Set<Area>();
  readonly #failures = new Failures();
  /** When something that was passed over for its wait may be read again, by area; Unix ms. */
  readonly #readAgainAt = new Map<Area, number>();
  readonly #done: Promise<void>;
  #outstandingBytes = 0;
  #replayedBytes = 0;
  #returnedItems = 0;
  /** Number of the first outcome that was not acted on. Those before it stay in Redis until the disk knows. */
  #nextOutcome = 0;
  /** Number of the first that Redis still has. A Redis that was restarted may have again what it was told to forget. */
  #firstOutcome = 0;
  /** Of each signal: the state of its breaker, and how many good answers its destination has given. */
  #gate = {
    signals: new Map<string, { state: BreakerState; passed: number }>(),
    paused: false,
    crowded: false,
  };
  /** Areas in which something was passed over whose breaker is open. */
  readonly #heldBack = new Set<Area>();
  readonly #roundTrips = new RoundTrips();
  #gateAt = Number.NEGATIVE_INFINITY;
  #adaptedAt = 0;
  #lostCheckAt = 0;
  #order: Order | undefined;
  #exclusive: Promise<unknown> = Promise.resolve();
  #stopping = new AbortController();
  #resting = new AbortController();
  #looksInVain = 0;

  constructor(deps: ReplayerDeps) {
    this.#d = deps;
    this.#share = new FairShare(deps.weights);
    this.#done = this.#run();
  }

  /** Takes new weights from the next batch on. */
  setWeights(weights: ReplayerDeps['weights']): void {
    this.#share.setWeights(weights);
  }

  get outstanding(): number {
    return this.#outstanding.size;
  }

  /** Payload bytes put back into the queue, uncompressed. */
  get replayedBytes(): number {
    return this.#replayedBytes;
  }

  /** Items of batches that were put back into the queue and need the disk no more; a probe in vain is none of them. */
  get returnedItems(): number {
    return this.#returnedItems;
  }

  get paused(): boolean {
    return this.#gate.paused;
  }

  /** Whether batches of an area may go back to Redis now. Those that the reader only passes over may not. */
  isGoing(area: Area): boolean {
    if (this.#allOpen || (this.#gate.paused && !this.#order)) return false;
    return !this.#heldBack.has(area) || this.#peeked.has(area) || this.#isBusy(area);
  }

  /** What a person asked to be replayed, beyond what replays by itself; until all of it was taken or tried in vain. */
  get order(): Selection | undefined {
    return this.#order;
  }

  /**
   * Replays what an order names, paused or not, and rejected batches too when it names their area: what is there now, each
   * batch once. What is refused again comes to stand behind that, and waits for the next order.
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

  /** When it resolves, nothing more is sent until it is resumed or ordered anew. What is in Redis goes its way. */
  pause(paused: boolean): Promise<void> {
    return this.#alone(async () => {
      await this.#d.store.pauseReplay(paused);
      this.#gate.paused = paused;
      if (!paused) {
        // Whatever was passed over before or meanwhile is looked at again.
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
   * Gives up everything in some areas but what is in flight to the upstream, which will be delivered, or comes back.
   * @returns items given up, and items on their way
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

  /** There may be something to replay: looks at once if it rests. */
  wake(): void {
    this.#looksInVain = 0;
    this.#resting.abort();
  }

  /**
   * Acts on all outcomes that there are.
   * @returns number of the first that is still to come
   */
  caughtUp(): Promise<number> {
    return this.#alone(async () => {
      await this.#takeOutcomes();
      return this.#nextOutcome;
    });
  }

  /** Redis has lost what it held: what it had of the disk comes back at once. */
  redisLost(): Promise<void> {
    this.wake();
    return this.#alone(() => this.#findLost(0));
  }

  /** Takes no more from the disk; what is in Redis goes its way. */
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

  /**
   * Looking twice a second whether there is anything to replay, where nothing is most of the time, took a quarter of the
   * CPU of an idle process.
   */
  async #rest(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#resting = new AbortController();
    await wait(REST_MS, undefined, { signal: this.#resting.signal }).catch(() => {});
  }

  /** @returns how long there is nothing to do, in ms */
  async #step(): Promise<number> {
    const { rate, now } = this.#d;
    if ([...this.#doneBefore.keys()].some(isOfRejected)) await this.#concludeRejected();
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
      // What has come back while others were on their way does not wait for all of them.
      else if (this.#rewind.has(area)) await this.#readAgain(area);
    }
    if (isRead) this.#seekProbe();
    // All is read: what was not found had left the disk before.
    if (ready.size === 0 && !this.#gate.paused && this.#rewind.size === 0) this.#doneBefore.clear();
    // What is in Redis may yet come back, untried, from a breaker that opens: then it is still to be replayed.
    const isOver = (area: Area) => !ready.has(area) && !this.#isPartlyRead(area) && !this.#isBusy(area);
    if (this.#order?.areas.every(isOver)) {
      // What it named was taken, or tried in vain; what it passed over waits its turn.
      for (const area of this.#order.areas) this.#rewind.add(area);
      this.#order = undefined;
      this.#d.log.info('the replay that was asked for is over');
    }
    return this.#share.pick((c) => ready.has(c)) ?? (ready.has('rejected') ? 'rejected' : undefined);
  }

  get #allOpen(): boolean {
    return [...this.#gate.signals.values()].every(({ state }) => state === 'open');
  }

  #stateOf(signal: string): BreakerState {
    return this.#gate.signals.get(signal)?.state ?? 'closed';
  }

  /** Whether a batch of this signal may go: none while its breaker is open, one while that is half open. */
  #mayGo(signal: string): boolean {
    const state = this.#stateOf(signal);
    if (state !== 'half_open') return state === 'closed';
    return ![...this.#outstanding.values()].some((outstanding) => outstanding.signal === signal);
  }

  /** Something in it waits to be read again. */
  #isPartlyRead(area: Area): boolean {
    return this.#readAgainAt.has(area) || this.#heldBack.has(area) || this.#rewind.has(area);
  }

  #isBusy(area: Area): boolean {
    return [...this.#outstanding.values()].some((outstanding) => outstanding.area === area);
  }

  /** Where nothing else is to be read, a breaker that is half open gets its probe from what was passed over. */
  #seekProbe(): void {
    const wanted = [...this.#gate.signals].some(
      ([signal, { state }]) => state === 'half_open' && this.#mayGo(signal),
    );
    if (!wanted) return;
    for (const area of this.#heldBack) this.#rewind.add(area);
    this.#heldBack.clear();
  }

  /** It is read again when its breaker has closed, or for a probe when there is nothing behind it. */
  #passOver({ position }: Entry): void {
    this.#d.segments.release(position);
    this.#heldBack.add(position.area);
  }

  async #readAgain(area: Area): Promise<void> {
    this.#rewind.delete(area);
    await this.#startOver(area);
  }

  /** @returns whether there is a batch to send, or may be one further on, or none */
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
      if (this.#outstanding.has(key)) continue; // read again after a rewind, and under way
      if (this.#doneBefore.delete(key)) {
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
        this.#d.segments.release(entry.position);
        const other = this.#readAgainAt.get(area) ?? Number.POSITIVE_INFINITY;
        this.#readAgainAt.set(area, Math.min(other, waitsUntilMs));
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
    if (this.#doneBefore.delete(key)) {
      // An earlier run of the dlq had replayed it, and it was delivered after it was read here.
      this.#peeked.delete(area);
      this.#finish(position);
      return;
    }
    const [[result] = []] = await store.enqueue(
      [
        [
          {
            id: key,
            signal: signal as Signal,
            class: priorityClass,
            origin: 'replay',
            encoding: held,
            items,
            receivedAt,
            payload,
            attempts, // one that has failed goes alone, so that it does not take others down
          },
        ],
      ],
      now(),
      this.#nextOutcome,
    );
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
    this.#replayedBytes += plain.byteLength;
    metrics.dlqReplayedBytes.inc(plain.byteLength);
  }

  async #takeOutcomes(): Promise<void> {
    const { store } = this.#d;
    while (true) {
      const { outcomes, first, next } = await store.replayOutcomes(this.#nextOutcome, OUTCOMES_AT_ONCE);
      this.#firstOutcome = first;
      this.#nextOutcome = next;
      if (outcomes.length === 0) return;
      for (const [i, { done, key, failed }] of outcomes.entries()) {
        const outstanding = this.#outstanding.get(key);
        if (!outstanding) {
          if (done && this.#doneBefore.size < REMEMBERED_DONE)
            this.#doneBefore.set(key, next - outcomes.length + i);
          continue;
        }
        this.#outstanding.delete(key);
        this.#outstandingBytes -= outstanding.bytes;
        if (done) {
          this.#failures.forget(key);
          this.#finish(outstanding.position);
          this.#returnedItems += outstanding.items;
          this.#roundTrips.add(this.#d.now() - outstanding.sinceMs);
        } else {
          this.#putBack(outstanding);
          // The breaker has opened: what is sent before that is known would come back at once.
          this.#gateAt = Number.NEGATIVE_INFINITY;
          if (failed) await this.#hasFailed(key, outstanding, failed);
        }
      }
    }
  }

  /**
   * Writes down what is acknowledged, and only then lets Redis forget it: a kill at any time replays nothing that was
   * delivered, and books nothing twice.
   */
  async checkpoint(): Promise<void> {
    const upTo = this.#actedOn();
    await this.#d.segments.checkpoint();
    if (upTo === this.#firstOutcome) return;
    await this.#d.store.forgetReplayOutcomes(upTo);
    this.#firstOutcome = upTo;
  }

  /** Number of the first outcome that the disk may not know of. */
  #actedOn(): number {
    const [oldest = this.#nextOutcome] = this.#doneBefore.values();
    return Math.min(this.#nextOutcome, Math.max(oldest, this.#nextOutcome - OUTCOMES_KEPT_MAX));
  }

  /** What was rejected is read only on command: what an earlier run had replayed of it is looked for at once. */
  async #concludeRejected(): Promise<void> {
    for await (const { record, position } of this.#d.segments.scan('rejected')) {
      if (this.#doneBefore.has(replayKey(record.envelope.id, 'rejected'))) this.#finish(position);
    }
    for (const key of [...this.#doneBefore.keys()]) if (isOfRejected(key)) this.#doneBefore.delete(key);
    await this.#startOver('rejected');
  }

  async #hasFailed(key: string, { signal, passedBefore }: Outstanding, failed: Failed): Promise<void> {
    await this.#readGate();
    const { state = 'closed', passed = 0 } = this.#gate.signals.get(signal) ?? {};
    this.#failures.add(
      key,
      failed,
      { isOpen: state !== 'closed', othersPassed: passed > passedBefore },
      this.#d.now(),
    );
  }

  /**
   * Puts a batch that no replay gets delivered, though others are, where it waits for people, with its history. A kill
   * between the two steps finds it in both places, and goes on with the second.
   */
  async #reject({ record: { envelope, payload }, position }: Entry, failure: Failure): Promise<void> {
    const { segments, log } = this.#d;
    const id = foldKey(`${envelope.id}-poison`);
    const { times, attempts, message } = failure;
    try {
      if (!segments.lastIds.has(id)) {
        const said = `${times} replays with ${attempts} tries in vain while others were delivered; last: ${message}`;
        const reason = 'rejected:poison';
        await segments.append('rejected', {
          envelope: { ...envelope, id, reason, attempts, message: said },
          payload,
        });
      }
    } catch (error) {
      segments.release(position);
      throw error;
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

  /** It comes again when what is read over has been read. */
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

  /** A Redis that lost its memory will never tell what became of a batch. */
  async #findLost(outstandingForMs: number): Promise<void> {
    const { store, now, log } = this.#d;
    this.#lostCheckAt = now();
    const old = [...this.#outstanding].filter(([, { sinceMs }]) => now() - sinceMs >= outstandingForMs);
    if (old.length === 0) return;
    const held = await store.holds(old.map(([key]) => key));
    await this.#takeOutcomes();
    for (const [i, [key, outstanding]] of old.entries()) {
      if (held[i] || !this.#outstanding.delete(key)) continue;
      this.#outstandingBytes -= outstanding.bytes;
      this.#putBack(outstanding);
      log.warn({ batch: key }, 'Redis has forgotten a replayed batch; it will be replayed again');
    }
  }

  async #startOver(area: Area): Promise<void> {
    const peeked = this.#peeked.get(area);
    if (peeked) this.#d.segments.release(peeked.position);
    this.#peeked.delete(area);
    await this.#d.segments.rewind(area);
  }

  /** One at a time: sending, and what people ask for. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#exclusive.then(work);
    this.#exclusive = done.catch(() => {});
    return done;
  }
}

/** A replayed batch has a key of its own: what was spilled under the old one may not be settled in its place. */
function replayKey(id: string, area: Area): string {
  return foldKey(`${area === 'rejected' ? 'x' : 'r'}${id}`);
}

/** Whether an order still means this record, which was there when it was given. */
function isNamed(
  order: Order,
  { record, position: { area, sequence } }: Entry,
  failure: Failure | undefined,
): boolean {
  if (failure && failure.inVainAtMs >= order.givenAtMs) return false; // it has been offered
  return sequence <= (order.upTo.get(area) ?? 0) && isSelected(order, record.envelope);
}

function isOfRejected(key: string): boolean {
  return key.startsWith('x');
}
