import type { Signal } from '@nrdot/otlp';
import { CLASSES } from '@nrdot/queue';
import type {
  CheckStatus,
  DailyStatus,
  DlqStatus,
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
  return {
    requests: sum(all, (one) => one.requests),
    refusedRequests: sum(all, (one) => one.refusedRequests),
    items: sum(all, (one) => one.items),
    refused,
  };
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
    keysUsed: sum(all, (one) => one.keysUsed),
    keysLimit: sum(all, (one) => one.keysLimit),
    maxKeys: first.maxKeys,
    points: sum(all, (one) => one.points),
    droppedPoints: sum(all, (one) => one.droppedPoints),
    aggregatedPoints: sum(all, (one) => one.aggregatedPoints),
    overflowPoints: sum(all, (one) => one.overflowPoints),
    topLabels: [...labels.values()].sort((a, b) => b.score - a.score).slice(0, first.topLabels.length || 8),
    ...(daily ? { daily } : {}),
  };
}

/** All report the shared state, each as of its last read. */
function latestDaily(all: readonly DailyStatus[]): DailyStatus | undefined {
  return all.reduce<DailyStatus | undefined>((latest, one) => {
    if (!latest) return one;
    return one.day > latest.day || (one.day === latest.day && one.sum > latest.sum) ? one : latest;
  }, undefined);
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
    items: sum(all, (one) => one.items),
    broken: [...broken.values()],
  };
}

export function mergeExporters(all: readonly ExporterStatus[]): ExporterStatus | undefined {
  if (all.length === 0) return undefined;
  const problems = all.flatMap((one) => one.lastProblem ?? []).sort((a, b) => b.at - a.at);
  return {
    upstream: [...new Set(all.map((one) => one.upstream))].join(', '),
    inflight: sum(all, (one) => one.inflight),
    concurrency: sum(all, (one) => one.concurrency),
    retries: sum(all, (one) => one.retries),
    ...sentOf(all.flatMap((one) => one.sent ?? [])),
    ...(problems[0] ? { lastProblem: problems[0] } : {}),
  };
}

function sentOf(all: readonly Required<ExporterStatus>['sent'][]): Pick<ExporterStatus, 'sent'> {
  if (all.length === 0) return {};
  const of = (signal: Signal) => ({
    requests: sum(all, (sent) => sent[signal].requests),
    items: sum(all, (sent) => sent[signal].items),
    bytes: sum(all, (sent) => sent[signal].bytes),
  });
  return {
    sent: { traces: of('traces'), metrics: of('metrics'), logs: of('logs'), profiles: of('profiles') },
  };
}

/** There is one dlq for each volume. */
export function mergeDlqs(all: readonly DlqStatus[]): DlqStatus | undefined {
  const [first] = all;
  if (!first || all.length === 1) return first;
  const worst = all.find(({ state }) => state !== 'ok') ?? first;
  const areas = {} as DlqStatus['areas'];
  for (const area of [...CLASSES, 'rejected'] as const) {
    const of = all.map((one) => one.areas[area]);
    const oldest = of.map((one) => one.oldestReceivedAt).filter((at) => at > 0);
    areas[area] = {
      items: sum(of, (one) => one.items),
      waitingBytes: sum(of, (one) => one.waitingBytes),
      diskBytes: sum(of, (one) => one.diskBytes),
      segments: sum(of, (one) => one.segments),
      oldestReceivedAt: oldest.length > 0 ? Math.min(...oldest) : 0,
    };
  }
  return {
    ...worst,
    diskBytes: sum(all, (one) => one.diskBytes),
    capacityBytes: sum(all, (one) => one.capacityBytes),
    rejectedCapacityBytes: sum(all, (one) => one.rejectedCapacityBytes ?? 0),
    areas,
    segments: all.flatMap((one) => one.segments),
    segmentsLeftOut: sum(all, (one) => one.segmentsLeftOut),
    quarantinedBytes: sum(all, (one) => one.quarantinedBytes),
    replay: {
      paused: all.some((one) => one.replay.paused),
      outstanding: sum(all, (one) => one.replay.outstanding),
      bytesPerSecond: sum(all, (one) => one.replay.bytesPerSecond),
      drainSeconds: Math.max(...all.map((one) => one.replay.drainSeconds)),
      replayedItems: sum(all, (one) => one.replay.replayedItems),
      returnedItems: sum(all, ({ replay }) => replay.returnedItems ?? replay.replayedItems),
    },
  };
}

function sum<T>(all: readonly T[], value: (one: T) => number): number {
  return all.reduce((total, one) => total + value(one), 0);
}
