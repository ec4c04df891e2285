/** One fault run: load, faults, recovery, and the oracle's judgement. */
import { setTimeout as wait } from 'node:timers/promises';
import {
  type GenerateReport,
  generate,
  judge,
  judgeTotals,
  MetricProducer,
  mix32,
  type Obligations,
  SequenceSet,
  seededRandom,
  waitUntil,
} from '@nrdot/testbed';
import { kindOf, type Mend, type Scene } from './catalogue.ts';
import type { Plan, PlannedFault } from './plan.ts';
import { MERGED, SETTINGS, type Stack } from './stack.ts';

export interface Result {
  index: number;
  seed: number;
  form: Plan['form'];
  faults: { kind: string; target: string }[];
  /** Items acknowledged with a 200. */
  obligations: number;
  missing: number;
  invented: number;
  corrupted: number;
  duplicated: number;
  /** So many duplicates the faults allow. */
  duplicatesAllowed: number;
  /** Lost to injected damage of the disk, and what the product counted as lost to it. */
  lost: number;
  countedLost: number;
  /** Points of cumulative streams and gauges that were acknowledged, and are judged by the totals of what came out; and their series. */
  mergedPoints: number;
  mergedSeries: number;
  /** Metrics whose totals were judged, and how many of them were exact. Of the others it was only held that they are not more. */
  totalsJudged: number;
  totalsExact: number;
  /** From the end of faults and load until the last obligation had arrived. */
  recoveryMs: number;
  /** Until the books balanced and nothing was queued. */
  settledMs: number;
  /** In words; empty when all is well. */
  failure: string;
}

/** Everything acknowledged has to be there this long after faults and load ended; more is late, which is a failure. */
export const LATE_MS = 120_000;
const RETRY_FOR_MS = 120_000;
const REQUEST_TIMEOUT_MS = 4_000;
const OFFER_AGAIN_MS = 3_000;

const PRODUCERS = 4;
const PRODUCER = {
  series: 20,
  kinds: ['counter', 'double counter', 'histogram', 'exponential histogram', 'level', 'gauge'],
} as const;
const COLLECT_EVERY_MS = 60;
const RESTART_SHARE = 0.05;
/** Runs with metrics of the same names: in the first their labels are given up, in the next it has been so. */
const RUNS_PER_NAME = 5;

/** Judged again when its stack ends: nothing may have arrived since that was not owed. */
export interface Verdict {
  result: Result;
  run: number;
  obligations: Obligations;
  neverSent: number[];
}

/** @param lateMs so long after the end of faults and load everything may be on its way */
export async function faultRun(stack: Stack, plan: Plan, lateMs = LATE_MS): Promise<Verdict> {
  const { mock } = stack;
  const random = seededRandom(mix32(plan.seed ^ mix32(plan.index) ^ 0x0fa17));
  const before = {
    ...mock.stats(),
    countedLost: await countedLost(stack),
    timeouts: await stack.upstreamTimeouts(),
    accepted: (await stack.books()).accepted,
    merged: stack.merged.points,
    counted: stack.metricClient.counted.points,
    series: stack.metricClient.counted.streams,
  };
  const run = mix32(plan.seed + mix32(plan.index + 77));
  const reports: GenerateReport[] = [];
  const neverSent: number[] = [];
  let damaged = false;
  const produce = async (items: number | undefined) => {
    reports.push(
      await generate({
        ...plan.load,
        ...(items === undefined ? {} : { items }),
        endpoint: stack.otlp,
        run,
        seed: plan.seed % 1_000,
        classes: { critical: 1, high: 2, normal: 3 },
        cardinality: 100,
        retryInitialMs: 50,
        retryMaxMs: 500,
        retryForMs: RETRY_FOR_MS,
        requestTimeoutMs: REQUEST_TIMEOUT_MS,
      }),
    );
  };
  const scene: Scene = {
    stack,
    random,
    twin: () => produce(Math.ceil(plan.load.items! / 2)),
    sent: async () => {
      await load;
      faultsOver.abort();
      await producing;
    },
    neverSent: (other) => void neverSent.push(other),
    damaged: () => {
      damaged = true;
      stack.mayLack = true;
    },
  };

  const load = produce(undefined);
  load.catch(() => {});
  const faultsOver = new AbortController();
  const producing = plan.merging ? produceMetrics(stack, plan, faultsOver.signal) : undefined;
  producing?.catch(() => {});
  await Promise.all(plan.faults.map((fault) => strikeAndMend(scene, fault)));
  await load;
  faultsOver.abort();
  await producing;
  const mendedMs = performance.now();

  const owed = together(reports);
  let failure = '';
  let recoveryMs = 0;
  const late = async (condition: () => Promise<boolean>, what: string) => {
    try {
      const timeoutMs = Math.max(lateMs - (performance.now() - mendedMs), 5_000);
      await waitUntil(condition, { what, timeoutMs, everyMs: 100 });
    } catch (error) {
      failure ||= (error as Error).message;
    }
  };
  let offeredMs = 0;
  let rejectedMost = 0;
  const offerRejected = async (rejected: number) => {
    if (rejected === 0 || performance.now() - offeredMs < OFFER_AGAIN_MS) return;
    offeredMs = performance.now();
    await fetch(`${stack.admin('dlq')}/api/dlq/replay?rejected=true`, { method: 'POST' });
  };
  const arrived = async () => {
    const there = judge(owed, mock.received(run)).missing.count === 0;
    if (there && recoveryMs === 0) recoveryMs = performance.now() - mendedMs;
    return there;
  };
  await late(async () => {
    const all = await arrived();
    const books = await stack.books();
    rejectedMost = Math.max(rejectedMost, books.rejected);
    await offerRejected(books.rejected);
    const quiet = books.queued === 0 && books.on_disk === 0 && books.rejected === 0 && books.difference === 0;
    if (!quiet) throw new Error(`the books: ${JSON.stringify(books)}`);
    // What damage took does not come any more.
    return quiet && (all || damaged);
  }, 'every obligation has arrived, nothing is queued and the books balance');
  if (recoveryMs === 0) recoveryMs = performance.now() - mendedMs;

  const { missing, invented } = judge(owed, mock.received(run));
  const after = mock.stats();
  const counted = (await countedLost(stack)) - before.countedLost;
  const uninvited = neverSent.reduce((sum, other) => sum + mock.received(other).count, 0);
  const lost = damaged ? Math.min(missing.count, counted) : 0;
  const { accepted } = await stack.books().catch(() => ({ accepted: before.accepted }));
  const mergedOut = stack.merged.points - before.merged;
  const acceptedTwice = accepted - before.accepted - together(reports).acknowledged.count - mergedOut;
  const merged = judgeMerged(stack, plan);
  const result: Result = {
    index: plan.index,
    seed: plan.seed,
    form: plan.form,
    faults: plan.faults.map(({ kind, target }) => ({ kind, target })),
    obligations: owed.acknowledged.count,
    missing: missing.count - lost,
    invented: invented.count + uninvited,
    corrupted:
      after.corrupted +
      after.foreign +
      after.misplaced +
      after.mixedClasses -
      before.corrupted -
      before.foreign -
      before.misplaced -
      before.mixedClasses -
      mergedOut, // which no generator made
    duplicated: after.duplicates - before.duplicates,
    duplicatesAllowed: allowed(plan, reports, {
      acceptedTwice,
      gaveUp: (await stack.upstreamTimeouts()) > before.timeouts,
    }),
    lost,
    countedLost: counted,
    mergedPoints: stack.metricClient.counted.points - before.counted,
    mergedSeries: stack.metricClient.counted.streams - before.series,
    totalsJudged: merged.judged,
    totalsExact: merged.exact,
    recoveryMs: Math.round(Math.max(0, recoveryMs)),
    settledMs: Math.round(performance.now() - mendedMs),
    failure: '',
  };
  const refused = reports.flatMap((report) => Object.entries(report.refusedByStatus));
  const complaints = [
    failure,
    result.missing > 0 ? `${result.missing} missing: ${missing.describe()}` : '',
    result.invented > 0 ? `${result.invented} invented: ${invented.describe()}` : '',
    result.corrupted > 0 ? `${result.corrupted} corrupted` : '',
    result.duplicated > result.duplicatesAllowed
      ? `${result.duplicated} duplicates, and ${result.duplicatesAllowed} are allowed`
      : '',
    // Of a batch that was accepted twice one copy may be damaged, and the other arrives (run 990 of seed 20261126).
    counted - lost > Math.max(0, acceptedTwice)
      ? `the product counted ${counted} items as damaged, ${lost} are gone, and ${acceptedTwice} were accepted twice`
      : '',
    ...merged.complaints,
    rejectedMost > 0 && plan.faults.some(({ kind }) => kindOf(kind).keeps)
      ? `${rejectedMost} items were rejected, though no answer was about them`
      : '',
    refused.length > 0 ? `sound requests were refused for good: ${JSON.stringify(refused)}` : '',
    ...stack.crashed().map((what) => `a process ended by itself: ${what}`),
  ];
  result.failure = complaints.filter(Boolean).join('; ');
  return { result, run, obligations: owed, neverSent };
}

/** @returns what has arrived since, and should not have */
export function judgeAgain(stack: Stack, { run, obligations, neverSent }: Verdict): string {
  const { missing, invented } = judge(obligations, stack.mock.received(run));
  const uninvited = neverSent.reduce((sum, other) => sum + stack.mock.received(other).count, 0);
  void missing;
  return invented.count + uninvited > 0 ? `${invented.count + uninvited} items came late and uninvited` : '';
}

/** Producers of what is merged, until the signal; then they say all that they have counted. */
async function produceMetrics(stack: Stack, { seed, index }: Plan, over: AbortSignal): Promise<void> {
  const { metricClient } = stack;
  const prefix = prefixOf(index);
  const produce = async (_: unknown, n: number) => {
    const own = mix32(seed ^ mix32(index * PRODUCERS + n));
    const random = seededRandom(own);
    const options = {
      ...PRODUCER,
      seed: own,
      name: `run${index}-${n}`,
      prefix,
      startsWithProcess: n % 2 === 0,
    };
    const producer = new MetricProducer(options, Date.now());
    while (!over.aborted) {
      if (random() < RESTART_SHARE) producer.restart(Date.now());
      for (const body of producer.collect(Date.now()))
        await metricClient.send(body, AbortSignal.timeout(RETRY_FOR_MS));
      await wait(COLLECT_EVERY_MS);
    }
    for (const body of producer.finish(Date.now()))
      await metricClient.send(body, AbortSignal.timeout(RETRY_FOR_MS));
  };
  await Promise.all(Array.from({ length: PRODUCERS }, produce));
}

function prefixOf(index: number): string {
  return `${MERGED}${Math.floor(index / RUNS_PER_NAME)}.`;
}

/**
 * Of all runs on this stack. Each label may be gone from what overflowed, so a metric is judged as a whole. Counted are the
 * totals of this run's metrics; gauges have none.
 */
function judgeMerged(
  { merged, metricClient: { counted, atMost, rejected }, mayLack }: Stack,
  { index, merging }: Plan,
): { complaints: string[]; judged: number; exact: number } {
  const lacking = mayLack || rejected > 0;
  const groups = [...counted.groups([]).values()];
  const complaints = judgeTotals(merged, {
    counted,
    atMost,
    kept: [],
    ...(lacking && { mayLack: new Set(groups.map(({ name }) => name)) }),
  });
  const own = groups.filter(({ kind, name }) => kind !== 'gauge' && name.includes(prefixOf(index)));
  const judged = merging ? own.map(({ name }) => name) : [];
  const exact = lacking ? [] : judged.filter((name) => !complaints.some((each) => each.startsWith(name)));
  return { complaints, judged: judged.length, exact: exact.length };
}

async function strikeAndMend(scene: Scene, { kind, target, afterMs, lastsMs }: PlannedFault): Promise<void> {
  await wait(afterMs);
  const mend: Mend = await kindOf(kind).strike(scene, target, lastsMs);
  await wait(lastsMs);
  await mend();
}

/** What all producers of a run were promised. */
function together(reports: readonly GenerateReport[]): Obligations {
  const all = {
    acknowledged: new SequenceSet(),
    partial: new SequenceSet(),
    unknown: new SequenceSet(),
    refused: new SequenceSet(),
  };
  for (const report of reports)
    for (const fate of Object.keys(all) as (keyof typeof all)[]) all[fate].addAll(report[fate]);
  return all;
}

/**
 * How many duplicates a run may have. What a client sends again after an attempt without a 200 may have been taken
 * before; a second producer sends all of its own; and what the books have as accepted twice, because a receiver did not
 * hear from Redis in time and gave the batch to the dlq, is delivered twice. Between pipeline and upstream only a fault
 * that hides an answer repeats anything, and then at most every item as often as a batch is tried. So does a machine so
 * busy that exporters gave up waiting for an answer.
 */
function allowed(
  plan: Plan,
  reports: readonly GenerateReport[],
  { acceptedTwice, gaveUp }: { acceptedTwice: number; gaveUp: boolean },
): number {
  const again = reports.reduce((sum, report) => sum + report.retries * plan.load.batchSize, 0);
  const twins = reports.slice(1).reduce((sum, report) => sum + report.items, 0);
  const repeats = gaveUp || plan.faults.some((fault) => kindOf(fault.kind).repeats);
  return (
    Math.max(again + twins, acceptedTwice) +
    (repeats ? plan.load.items! * SETTINGS.exporter.retry.max_attempts : 0)
  );
}

async function countedLost(stack: Stack): Promise<number> {
  const redis = stack.redis();
  try {
    const lost = await redis.hmget('{nrdot}:books', 'dropped:corrupted', 'dropped:redis_lost');
    return lost.reduce((sum, items) => sum + Number(items ?? 0), 0);
  } finally {
    redis.disconnect();
  }
}
