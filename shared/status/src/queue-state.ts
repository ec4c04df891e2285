import type { Config } from '@nrdot/config';
import {
  type Accounting,
  BREAKER_REASONS,
  BREAKER_STATES,
  type Breaker,
  byClass,
  CLASSES,
  type Depth,
  type Origin,
  type PriorityClass,
  type Store,
  worstOf,
} from '@nrdot/queue';
import { labelValues, type MetricsRegistry } from '@nrdot/telemetry';

/** The scheduler's state, for people. Times: ms. */
export interface SchedulerState {
  weights: Record<PriorityClass, number>;
  /** The most severe of the signals' breakers. */
  breaker: Breaker;
  breakers: Breaker[];
  /** Items that a class may have before the class furthest ahead of its share is served again. */
  deficits: Record<Origin, Record<PriorityClass, number>>;
  /** 0 to 1, of bytes or items, whichever is nearer its limit. */
  fill: number;
  /** The same for the queue of each class, by its own limit or else that of the whole queue. */
  fillByClass: Record<PriorityClass, number>;
  spilling: PriorityClass[];
  depth: Depth;
  /** Age of the oldest waiting batch by class; 0 if there is none. */
  oldestAgeMs: Record<Origin, Record<PriorityClass, number>>;
  /** Items moved since the prefix was first used. */
  moved: Record<PriorityClass, number>;
  slot: Origin;
  /** Jobs moved: by all schedulers since the prefix was first used, and by this one now. */
  decisions: { total: number; perSecond: number };
  accounting: Accounting;
}

export interface StateOptions {
  weights(): Record<PriorityClass, number>;
  decisionsPerSecond(): number;
  maxBytes: number;
  maxItems: number;
  perClass?: Config['queue']['perClass'];
  slotMs: number;
  notReady(): string | undefined;
}

export async function readState(store: Store, options: StateOptions, nowMs: number): Promise<SchedulerState> {
  const [depth, breakers, scheduler, live, replay, accounting] = await Promise.all([
    store.depth(),
    store.breakers(),
    store.schedulerHash(),
    ages(store, 'live', nowMs),
    ages(store, 'replay', nowMs),
    store.accounting(),
  ]);
  return {
    weights: options.weights(),
    deficits: { live: deficitsOf(scheduler, 'live'), replay: deficitsOf(scheduler, 'replay') },
    breaker: worstOf(breakers),
    breakers,
    fill: Math.max(depth.total.bytes / options.maxBytes, depth.total.items / options.maxItems),
    fillByClass: byClass((c) => {
      const { bytes, items } = depth.stages.queued[c];
      const { maxBytes = options.maxBytes, maxItems = options.maxItems } = options.perClass?.[c] ?? {};
      return Math.max(bytes / maxBytes, items / maxItems);
    }),
    spilling: CLASSES.filter((c) => scheduler[`spilling:${c}`] === '1'),
    depth,
    oldestAgeMs: { live, replay },
    moved: byClass((c) => Number(scheduler[`moved:${c}`] ?? 0)),
    slot: Math.floor(nowMs / options.slotMs) % 2 === 0 ? 'live' : 'replay',
    decisions: { total: Number(scheduler.decisions ?? 0), perSecond: options.decisionsPerSecond() },
    accounting,
  };
}

/**
 * The tags of the weighted pick (`scripts/move.ts`) as deficits: how many items each class is behind the one furthest ahead. An
 * idle class saves no credit, so its tag counts as the current one.
 */
function deficitsOf(hash: Record<string, string>, origin: Origin): Record<PriorityClass, number> {
  const weighedBy = (hash.weights ?? '1:1:1').split(':').map(Number);
  const product = weighedBy.reduce((all, weight) => all * weight, 1);
  const now = Number(hash[`${origin}:virtual`] ?? 0);
  const tags = byClass((c) => Math.max(now, Number(hash[`${origin}:${c}`] ?? 0)));
  const furthest = Math.max(...Object.values(tags));
  return byClass((c) => Math.round(((furthest - tags[c]) * weighedBy[CLASSES.indexOf(c)]!) / product));
}

async function ages(store: Store, origin: Origin, nowMs: number): Promise<Record<PriorityClass, number>> {
  const found = await Promise.all(CLASSES.map((c) => store.oldest(c, origin)));
  return byClass((c) => Math.max(0, nowMs - (found[CLASSES.indexOf(c)] ?? nowMs)));
}

/** Fields of the accounting that become metrics, before anything has happened. */
const NOTHING_YET = Object.fromEntries([
  ...labelValues('apq_spill_total', 'reason')
    .filter((reason) => !reason.includes('<'))
    .flatMap((reason) => CLASSES.map((c) => [`spilled:${c}:${reason}`, 0])),
  ...labelValues('pipeline_dropped_items_total', 'reason').map((reason) => [`dropped:${reason}`, 0]),
]) as Record<string, number>;

/** Publishes the state as metrics, read from Redis at each scrape. */
export function publishState(
  registry: MetricsRegistry,
  store: Store,
  options: StateOptions,
  now: () => number,
): void {
  const { metrics } = registry;
  const seen = new Map<string, number>();
  /** Makes a counter follow a total in Redis; it appears once that is known. */
  const follow = (key: string, value: number, inc: (by: number) => void) => {
    const before = seen.get(key) ?? 0;
    if (value > before || !seen.has(key)) inc(Math.max(0, value - before));
    seen.set(key, value);
  };
  const publishBreaker = (breaker: Breaker) => {
    const { signal } = breaker;
    for (const known of BREAKER_STATES)
      metrics.apqBreakerState.set({ state: known, signal }, known === breaker.state ? 1 : 0);
    for (const known of BREAKER_REASONS) {
      const holds = breaker.state !== 'closed' && breaker.reason === known;
      metrics.apqBreakerReason.set({ reason: known, signal }, holds ? 1 : 0);
    }
    metrics.apqBreakerProbeSeconds.set({ signal }, Math.max(0, breaker.retryAtMs - now()) / 1000);
    const transitions = [
      ...BREAKER_REASONS.map((reason) => ['open', reason, breaker.openedByReason[reason]] as const),
      ['half_open', 'time', breaker.halfOpenedTotal] as const,
      ['closed', 'probe', breaker.closedTotal] as const,
    ];
    for (const [state, reason, count] of transitions) {
      const labels = { state, reason, signal };
      follow(`${signal}:${state}:${reason}`, count, (by) => metrics.apqBreakerTransitions.inc(labels, by));
    }
  };
  registry.onScrape(async () => {
    if (options.notReady()) return; // the answer would come after the scrape; pipeline_redis_up says why nothing moves
    const [state, books, memory] = await Promise.all([
      readState(store, options, now()),
      store.books(),
      store.memory(),
    ]);
    const weights = options.weights();
    const allWeights = CLASSES.reduce((sum, c) => sum + weights[c], 0);
    for (const c of CLASSES) metrics.apqWeightRatio.set({ class: c }, weights[c] / allWeights);
    metrics.apqFillRatio.set(state.fill);
    for (const c of CLASSES) {
      metrics.apqClassFillRatio.set({ class: c }, state.fillByClass[c]);
      for (const origin of ['live', 'replay'] as const) {
        const { items, bytes } = state.depth.stages[origin === 'live' ? 'queued' : 'replay'][c];
        metrics.apqClassSize.set({ class: c, origin }, items);
        metrics.apqClassBytes.set({ class: c, origin }, bytes);
        metrics.apqOldestAge.set({ class: c, origin }, state.oldestAgeMs[origin][c] / 1000);
        metrics.apqDeficitItems.set({ class: c, origin }, state.deficits[origin][c]);
        metrics.apqSlot.set({ origin }, origin === state.slot ? 1 : 0);
      }
    }
    state.breakers.forEach(publishBreaker);
    follow('decisions', state.decisions.total, (by) => metrics.apqDecisions.inc(by));
    for (const [field, items] of Object.entries({ ...NOTHING_YET, ...books })) {
      const [kind, ...rest] = field.split(':');
      // A Redis that has lost its accounting gets it back from the dlq: do not count that growth again.
      const total = Math.max(items, seen.get(field) ?? 0);
      if (kind === 'spilled') {
        const [priorityClass = '', ...reason] = rest;
        const labels = { class: priorityClass, reason: reason.join(':') };
        follow(field, total, (by) => metrics.apqSpill.inc(labels, by));
      }
      if (kind === 'dropped')
        follow(field, total, (by) => metrics.pipelineDroppedItems.inc({ reason: rest.join(':') }, by));
    }
    for (const [where, items] of Object.entries(state.accounting))
      metrics.pipelineAccountingItems.set({ state: where }, items);
    metrics.redisMemoryBytes.set(memory.usedBytes);
    metrics.redisMemoryLimitBytes.set(memory.limitBytes);
  });
}
