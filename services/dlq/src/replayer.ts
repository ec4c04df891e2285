import { setTimeout as wait } from 'node:timers/promises';
import { type ContentEncoding, encodeContent, type Signal } from '@nrdot/otlp';
import { FairShare, isPriorityClass, type PriorityClass, type Store } from '@nrdot/queue';
import { AREAS, type Area, type Entry, type Position, type SegmentLog } from '@nrdot/segment-log';
import type { Logger, Metrics } from '@nrdot/telemetry';
import type { ReplayRate } from './replay-rate.ts';
import { RoundTrips } from './round-trips.ts';
import { isSelected, REPLAY_AREAS, type Selection } from './selection.ts';

export interface ReplayerDeps {
  store: Store;
  segments: SegmentLog;
  rate: ReplayRate;
  weights: Record<PriorityClass, number>;
  log: Logger;
  metrics: Metrics;
  /** Something on disk is done with. */
  changed(): void;
  now(): number;
}

interface Outstanding {
  position: Position;
  area: Area;
  bytes: number;
  sinceMs: number;
}

/** In Redis at once: enough to keep exporters busy, little enough to keep memory flat. */
const OUTSTANDING_MAX = 128;
const OUTSTANDING_MAX_BYTES = 8 * 1024 * 1024;
const OUTCOMES_AT_ONCE = 512;
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
 * governor's rate, while the breaker lets anything through. A record is done with when the upstream has taken it.
 */
export class Replayer {
  readonly #d: ReplayerDeps;
  readonly #share: FairShare;
  readonly #outstanding = new Map<string, Outstanding>();
  readonly #peeked = new Map<Area, Entry>();
  /** Batches that an earlier run of the dlq had put into Redis and that were delivered: the number of the outcome, by key. */
  readonly #doneBefore = new Map<string, number>();
  readonly #rewind = new Set<Area>();
  readonly #done: Promise<void>;
  #outstandingBytes = 0;
  #replayedBytes = 0;
  /** Number of the first outcome that was not acted on. Those before it stay in Redis until the disk knows. */
  #nextOutcome = 0;
  /** Number of the first that Redis still has. A Redis that was restarted may have again what it was told to forget. */
  #firstOutcome = 0;
  #gate: { state: 'closed' | 'open' | 'half_open'; paused: boolean; crowded: boolean } = {
    state: 'open',
    paused: false,
    crowded: false,
  };
  readonly #roundTrips = new RoundTrips();
  #gateAt = Number.NEGATIVE_INFINITY;
  #adaptedAt = 0;
  #lostCheckAt = 0;
  #order: Selection | undefined;
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

  get paused(): boolean {
    return this.#gate.paused;
  }

  /** Whether batches may go back to Redis now. */
  get going(): boolean {
    return this.#gate.state !== 'open' && (!this.#gate.paused || this.#order !== undefined);
  }

  /** What a person asked to be replayed, beyond what replays by itself; until all of it is on its way. */
  get order(): Selection | undefined {
    return this.#order;
  }

  /** Replays what an order names, paused or not, and rejected batches too when it names their area. */
  replay(order: Selection): Promise<void> {
    return this.#alone(async () => {
      for (const area of order.areas) await this.#startOver(area);
      this.#order = order;
      this.wake();
    });
  }

  /** When it resolves, nothing more is sent by itself until it is resumed. What is in Redis goes its way. */
  pause(paused: boolean): Promise<void> {
    return this.#alone(async () => {
      await this.#d.store.pauseReplay(paused);
      this.#gate.paused = paused;
    });
  }

  /**
   * Gives up everything in some areas but what is on its way to the upstream, which will be delivered, or comes back.
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
    const { state } = this.#gate;
    if (state === 'open') return IDLE_MS;
    const waitingMs = this.#outstanding.size > 0 ? BUSY_MS : IDLE_MS;
    if (state === 'half_open' && this.#outstanding.size > 0) return waitingMs;
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
    for (const area of [...this.#rewind]) {
      const busy = [...this.#outstanding.values()].some((outstanding) => outstanding.area === area);
      if (busy) continue;
      this.#rewind.delete(area);
      await this.#startOver(area);
    }
    const ready = new Set<Area>();
    for (const area of AREAS) if (await this.#peek(area)) ready.add(area);
    // All is read: what was not found had left the disk before.
    if (ready.size === 0 && !this.#gate.paused && this.#rewind.size === 0) this.#doneBefore.clear();
    if (this.#order?.areas.every((area) => !ready.has(area))) {
      // What it named has been read; what it passed over waits its turn.
      for (const area of this.#order.areas) this.#rewind.add(area);
      this.#order = undefined;
      this.#d.log.info('the replay that was asked for is on its way');
    }
    return this.#share.pick((c) => ready.has(c)) ?? (ready.has('rejected') ? 'rejected' : undefined);
  }

  async #peek(area: Area): Promise<boolean> {
    if (this.#rewind.has(area)) return false;
    const ordered = this.#order?.areas.includes(area) ? this.#order : undefined;
    if (!ordered && (this.#gate.paused || area === 'rejected')) return false;
    while (!this.#peeked.has(area)) {
      const entry = await this.#d.segments.read(area);
      if (!entry) return false;
      const key = replayKey(entry.record.envelope.id, area);
      if (this.#outstanding.has(key)) continue; // read again after a rewind, and under way
      if (this.#doneBefore.delete(key)) {
        this.#finish(entry.position);
        continue;
      }
      const isOrdered = !ordered || isSelected(ordered, entry.record.envelope);
      if (isOrdered || (!this.#gate.paused && area !== 'rejected')) this.#peeked.set(area, entry);
      else this.#d.segments.release(entry.position);
    }
    return true;
  }

  async #send(area: Area, { record, position }: Entry): Promise<void> {
    const { store, metrics, now } = this.#d;
    const { id, signal, items, receivedAt, encoding } = record.envelope;
    const priorityClass = isPriorityClass(record.envelope.class) ? record.envelope.class : 'normal';
    const plain = Buffer.from(record.payload.buffer, record.payload.byteOffset, record.payload.byteLength);
    const held = ['gzip', 'zstd'].includes(encoding) ? (encoding as ContentEncoding) : 'identity';
    const payload = await encodeContent(plain, held);
    const key = replayKey(id, area);
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
    this.#outstanding.set(key, { position, area, bytes: plain.byteLength, sinceMs: now() });
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
      for (const [i, { done, key }] of outcomes.entries()) {
        const outstanding = this.#outstanding.get(key);
        if (!outstanding) {
          if (done && this.#doneBefore.size < REMEMBERED_DONE)
            this.#doneBefore.set(key, next - outcomes.length + i);
          continue;
        }
        this.#outstanding.delete(key);
        this.#outstandingBytes -= outstanding.bytes;
        if (done) {
          this.#finish(outstanding.position);
          this.#roundTrips.add(this.#d.now() - outstanding.sinceMs);
        } else {
          this.#putBack(outstanding);
          // The breaker has opened: what is sent before that is known would come back at once.
          this.#gateAt = Number.NEGATIVE_INFINITY;
        }
      }
    }
  }

  /**
   * Writes down what is done with, and only then lets Redis forget it: a kill at any time replays nothing that was
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
    const [breaker, paused] = await Promise.all([store.breaker(), store.replayPaused()]);
    this.#gate = { state: breaker.state, paused, crowded: breaker.throttledShare > CROWDED };
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
  return `${area === 'rejected' ? 'x' : 'r'}${id}`;
}

function isOfRejected(key: string): boolean {
  return key.startsWith('x');
}
