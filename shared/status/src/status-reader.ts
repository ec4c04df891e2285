import { setTimeout as wait } from 'node:timers/promises';
import { type Amount, byClass, CLASSES, type Store } from '@nrdot/queue';
import { type AccountLimits, AccountUsage } from './account-usage.ts';
import { findingsOf, summaryOf, waitingOnDisk } from './findings.ts';
import { Lately } from './lately.ts';
import { mergeChecks, mergeExporters, mergeLimiters, mergeReceivers } from './merged-parts.ts';
import type { PipelineStatus, QueueStatus, Rates, ServiceLine } from './pipeline-status.ts';
import {
  type DlqStatus,
  type ProcessStatus,
  type ReceiverStatus,
  type ServiceName,
  type ServiceParts,
  STATUS_EVERY_MS,
} from './process-status.ts';
import { readState, type SchedulerState, type StateOptions } from './queue-state.ts';
import { RateMeter } from './rate-meter.ts';
import { stateText } from './service-state.ts';
import type { StatusBoard } from './status-board.ts';

const RATE_SPAN_MS = 4_000;
const RATE_STALE_MS = 15_000;
/** Requests within this time share one read. */
const FRESH_MS = 400;
/** Every process that runs has reported again after this time with Redis. */
const HEARD_AFTER_MS = 2 * STATUS_EVERY_MS;
/** A running Redis answers within this time. */
const PATIENCE_MS = 2_000;

interface StatusSources {
  store: Store;
  state: StateOptions;
  accountLimits(): AccountLimits;
  board: StatusBoard;
  /** Redis' address, without credentials, and whether "nrdot up" runs it. */
  redis: { address: string; isOwn: boolean };
  /** Time since Redis became usable, in ms: what is older is from before it was away. */
  readyForMs(): number;
  now(): number;
  /** Unix ms that only moves forward: for ages of readings, and rates. */
  steadyNow(): number;
}

/** What was read from Redis. */
type Shared = Awaited<ReturnType<typeof readShared>>;

/** Composes the status from Redis, and from this process only while Redis is away. */
export class StatusReader {
  readonly #s: StatusSources;
  readonly #meter = new RateMeter(RATE_SPAN_MS, RATE_STALE_MS);
  readonly #lately = new Lately();
  readonly #usage = new AccountUsage();
  #mostOnDisk = 0;
  #unheardUntil = Number.NEGATIVE_INFINITY;
  #difference: { value: number; since: number } | undefined;
  #last: { at: number; status: Promise<PipelineStatus> } | undefined;

  constructor(sources: StatusSources) {
    this.#s = sources;
  }

  read(): Promise<PipelineStatus> {
    const steadyNow = this.#s.steadyNow();
    if (!this.#last || steadyNow - this.#last.at > FRESH_MS)
      this.#last = { at: steadyNow, status: this.#read(this.#s.now(), steadyNow) };
    return this.#last.status;
  }

  async #read(now: number, steadyNow: number): Promise<PipelineStatus> {
    const { state, board } = this.#s;
    const own = await board.read();
    const problem = state.notReady();
    const readyForMs = this.#s.readyForMs();
    const read = problem === undefined ? readShared(this.#s, now).catch(() => undefined) : undefined;
    const shared = await Promise.race([read, wait(PATIENCE_MS, undefined, { ref: false })]);
    // A Redis that refuses writes has no statuses, and this process's own is missing too.
    const ownAgeMs = shared?.statuses.find(({ status }) => status.instance === own.instance)?.ageMs;
    if (shared && (ownAgeMs ?? Number.POSITIVE_INFINITY) > HEARD_AFTER_MS)
      this.#unheardUntil = steadyNow + HEARD_AFTER_MS;
    const processes = [
      { ageMs: 0, status: own },
      ...(shared?.statuses.filter(({ status }) => status.instance !== own.instance) ?? []),
    ];
    const services = processes.flatMap(linesOf(now));
    const parts = <S extends ServiceName>(service: S) =>
      processes.flatMap(({ ageMs, status }) => {
        const part = status.services[service];
        return part
          ? [{ instance: status.instance, at: steadyNow - ageMs, part: part as NonNullable<ServiceParts[S]> }]
          : [];
      });
    const receivers = parts('receiver');
    const allDlqs = parts('dlq');
    const dlqs = allDlqs.filter(({ at }) => steadyNow - at <= readyForMs);
    const diskIsOld =
      shared !== undefined && (dlqs.length < allDlqs.length || (shared.diskReportAgeMs ?? 0) > readyForMs);
    this.#record(steadyNow, shared, receivers, dlqs);
    const exporters = parts('exporter');
    for (const { instance, at, part } of exporters)
      if (part.sent) this.#usage.record(instance, part.sent, at);
    const account = this.#usage.read(this.#s.accountLimits(), steadyNow);
    const rates = this.#rates(steadyNow);
    const receiver = mergeReceivers(receivers.map(({ part }) => part));
    const limiter = mergeLimiters(receivers.flatMap(({ part }) => part.limiter ?? []));
    const check = mergeChecks(receivers.flatMap(({ part }) => part.check ?? []));
    const exporter = mergeExporters(exporters.map(({ part }) => part));
    // One dlq at a time: an earlier one's last report counts no more.
    const dlq = dlqs.toSorted((a, b) => b.at - a.at)[0]?.part;
    const known = {
      at: now,
      redis: {
        ...this.#s.redis,
        ...(problem ? { problem } : shared ? shared.memory : { problem: 'Redis did not answer in time' }),
        ...shared?.losses,
      },
      services,
      rates,
      ...(shared
        ? {
            queue: queueOf(shared.state, state, rates),
            breaker: shared.state.breaker,
            breakers: shared.state.breakers,
            books: shared.state.accounting,
            differenceMs: this.#differsFor(shared.state.accounting.difference, steadyNow),
            dropped: droppedOf(shared.books),
            lately: this.#lately.read(shared.books, steadyNow),
          }
        : {}),
      ...(receiver ? { receiver } : {}),
      ...(limiter ? { limiter } : {}),
      ...(check ? { check } : {}),
      ...(exporter ? { exporter } : {}),
      ...(account.length > 0 ? { account } : {}),
      ...(diskIsOld ? { diskIsOld } : {}),
      ...(shared && (readyForMs < HEARD_AFTER_MS || steadyNow < this.#unheardUntil)
        ? { unheard: true as const }
        : {}),
      ...(dlq ? { dlq, drain: this.#drain(dlq) } : {}),
    };
    const told = { ...known, services: services.map((line) => ({ ...line, state: stateText(line, known) })) };
    return { ...told, findings: findingsOf(told), summary: summaryOf(told) };
  }

  #differsFor(difference: number, now: number): number {
    if (this.#difference?.value !== difference) this.#difference = { value: difference, since: now };
    return now - this.#difference.since;
  }

  #drain(dlq: DlqStatus): { fromItems: number; leftItems: number } {
    const leftItems = waitingOnDisk(dlq);
    this.#mostOnDisk = leftItems === 0 ? 0 : Math.max(this.#mostOnDisk, leftItems);
    return { fromItems: this.#mostOnDisk, leftItems };
  }

  #record(
    now: number,
    shared: Shared | undefined,
    receivers: { instance: string; at: number; part: ReceiverStatus }[],
    dlqs: { instance: string; at: number; part: DlqStatus }[],
  ): void {
    const meter = this.#meter;
    if (shared) {
      const { books, state } = shared;
      for (const field of ['accepted', 'delivered', 'stored', 'rejected'])
        meter.record(field, 'redis', books[field] ?? 0, now);
      meter.record('dropped', 'redis', sumOf(droppedOf(books)), now);
      for (const c of CLASSES) meter.record(`moved:${c}`, 'redis', state.moved[c], now);
    }
    for (const { instance, at, part } of receivers) {
      meter.record('requests', instance, part.requests, at);
      meter.record('refusedRequests', instance, part.refusedRequests, at);
      meter.record('received', instance, part.items, at);
      meter.record('limiterDropped', instance, part.limiter?.droppedPoints ?? 0, at);
    }
    for (const { instance, at, part } of dlqs)
      meter.record('replayed', instance, part.replay.returnedItems ?? part.replay.replayedItems, at);
  }

  #rates(now: number): Rates {
    const rate = (counter: string) => this.#meter.perSecond(counter, now);
    return {
      requests: rate('requests'),
      refusedRequests: rate('refusedRequests'),
      received: rate('received'),
      accepted: rate('accepted'),
      limiterDropped: rate('limiterDropped'),
      dropped: rate('dropped'),
      moved: byClass((c) => rate(`moved:${c}`)),
      delivered: rate('delivered'),
      stored: rate('stored') + rate('rejected'),
      replayed: rate('replayed'),
    };
  }
}

async function readShared({ store, state }: StatusSources, now: number) {
  const [whole, books, statuses, memory, losses, diskReportAgeMs] = await Promise.all([
    readState(store, state, now),
    store.books(),
    store.statuses() as Promise<{ ageMs: number; status: ProcessStatus }[]>,
    store.memory(),
    store.losses(),
    store.diskReportAgeMs(),
  ]);
  return { state: whole, books, statuses, memory, losses, diskReportAgeMs };
}

function linesOf(now: number) {
  return ({ ageMs, status }: { ageMs: number; status: ProcessStatus }): Omit<ServiceLine, 'state'>[] =>
    (Object.keys(status.services) as ServiceName[]).map((service) => {
      const problem = status.services[service]?.problem;
      const { instance, version, rssBytes } = status;
      const upMs = Math.max(0, now - status.startedAt);
      return { service, instance, ageMs, upMs, version, rssBytes, ...(problem ? { problem } : {}) };
    });
}

function queueOf(state: SchedulerState, options: StateOptions, rates: Rates): QueueStatus {
  const { maxBytes, maxItems } = options;
  const { stages, total } = state.depth;
  const [weights, moved] = [sumOf(state.weights), sumOf(rates.moved)];
  return {
    fill: state.fill,
    maxBytes,
    maxItems,
    items: total.items,
    bytes: total.bytes,
    slot: state.slot,
    classes: byClass((c) => {
      const exporting = add(stages.export[c], stages['replay-export'][c]);
      const all = [stages.queued[c], stages.replay[c], exporting, stages.spill[c]].reduce(add);
      return {
        waiting: stages.queued[c],
        replay: stages.replay[c],
        exporting,
        spilling: stages.spill[c],
        fill: Math.max(all.bytes / maxBytes, all.items / maxItems),
        // The mark ends with the next batch, which may never come.
        spills: total.items > 0 && state.spilling.includes(c),
        oldestAgeMs: Math.max(state.oldestAgeMs.live[c], state.oldestAgeMs.replay[c]),
        weight: state.weights[c],
        wantedShare: state.weights[c] / weights,
        achievedShare: moved > 0 ? rates.moved[c] / moved : 0,
      };
    }),
  };
}

function droppedOf(books: Record<string, number>): Record<string, number> {
  const reasons = Object.entries(books).filter(([field, items]) => field.startsWith('dropped:') && items > 0);
  return Object.fromEntries(reasons.map(([field, items]) => [field.slice('dropped:'.length), items]));
}

function sumOf(items: Readonly<Record<string, number>>): number {
  return Object.values(items).reduce((sum, n) => sum + n, 0);
}

function add(a: Amount, b: Amount): Amount {
  return { batches: a.batches + b.batches, items: a.items + b.items, bytes: a.bytes + b.bytes };
}
