import type { Signal } from '@nrdot/otlp';
import type {
  CheckStatus,
  DailyStatus,
  ExporterStatus,
  LimiterStatus,
  ReceiverStatus,
} from './process-status.ts';

/** Merge the reports of several instances of a service; undefined if there are none. */
export function mergeReceivers(
  all: readonly ReceiverStatus[],
): Omit<ReceiverStatus, 'limiter' | 'check'> | undefined {
  if (all.length === 0) return undefined;
  const refused: Record<string, number> = {};
  for (const [reason, requests] of all.flatMap((one) => Object.entries(one.refused))) {
    refused[reason] = (refused[reason] ?? 0) + requests;
  }
  return { ...sums(all, ['requests', 'refusedRequests', 'items']), refused };
}

/** Each receiver reports its own labels; a label that two report is shown with the higher score. */
export function mergeLimiters(all: readonly LimiterStatus[]): LimiterStatus | undefined {
  const [first] = all;
  if (!first) return undefined;
  const daily = latestDaily(all.flatMap((one) => one.daily ?? []));
  const labels = new Map<string, LimiterStatus['topLabels'][number]>();
  for (const label of all.flatMap((one) => one.topLabels)) {
    const name = `${label.metric}\n${label.label}`;
    if (label.score >= (labels.get(name)?.score ?? 0)) labels.set(name, label);
  }
  return {
    mode: first.mode,
    maxKeys: first.maxKeys,
    ...sums(all, ['keysUsed', 'keysLimit', 'points', 'droppedPoints', 'aggregatedPoints', 'overflowPoints']),
    topLabels: [...labels.values()].sort((a, b) => b.score - a.score).slice(0, first.topLabels.length || 8),
    ...(daily ? { daily } : {}),
  };
}

/** All report the shared state, each as of its last read. */
function latestDaily(all: readonly DailyStatus[]): DailyStatus | undefined {
  return all.toSorted((a, b) => (a.day === b.day ? b.sum - a.sum : b.day.localeCompare(a.day)))[0];
}

export function mergeChecks(all: readonly CheckStatus[]): CheckStatus | undefined {
  const [first] = all;
  if (!first) return undefined;
  const broken = new Map<string, CheckStatus['broken'][number]>();
  for (const one of all.flatMap((check) => check.broken)) {
    const name = `${one.rule} ${one.signal}`;
    broken.set(name, { ...one, items: one.items + (broken.get(name)?.items ?? 0) });
  }
  return {
    sample: Math.max(...all.map(({ sample }) => sample)),
    ...sums(all, ['items']),
    broken: [...broken.values()],
  };
}

export function mergeExporters(all: readonly ExporterStatus[]): ExporterStatus | undefined {
  if (all.length === 0) return undefined;
  const problems = all.flatMap((one) => one.lastProblem ?? []).sort((a, b) => b.at - a.at);
  const sent = all.flatMap((one) => one.sent ?? []);
  const of = (signal: Signal) =>
    sums(
      sent.map((one) => one[signal]),
      ['requests', 'items', 'bytes'],
    );
  return {
    upstream: [...new Set(all.map((one) => one.upstream))].join(', '),
    ...sums(all, ['inflight', 'concurrency', 'retries']),
    ...(sent.length > 0
      ? { sent: { traces: of('traces'), metrics: of('metrics'), logs: of('logs'), profiles: of('profiles') } }
      : {}),
    ...(problems[0] ? { lastProblem: problems[0] } : {}),
  };
}

/** The sum over all of each of these fields. */
function sums<K extends string>(all: readonly Record<K, number>[], fields: readonly K[]): Record<K, number> {
  const sum = (field: K) => all.reduce((total, one) => total + one[field], 0);
  return Object.fromEntries(fields.map((field) => [field, sum(field)])) as Record<K, number>;
}
