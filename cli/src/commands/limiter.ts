import type { LimiterAnswer } from '@nrdot/receiver';
import { numberText as n } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { print, table } from '../output.ts';

const SHOWN = 10;

/** `nrdot limiter`: the state of a receiver's limiter, the labels that fill it, and its decisions. */
export async function limiterCommand(flags: AdminFlags): Promise<void> {
  const report = await new AdminClient(flags).get<LimiterAnswer>('/api/limiter');
  print(flags, report, asText(report));
}

function asText(report: LimiterAnswer): string {
  const { mode, keysUsed, keysLimit, maxKeys, totals, topMetrics, topLabels, decisions, daily } = report;
  const dropped = Object.entries(totals.dropped);
  const lines = [
    `mode       ${mode}${mode === 'observe' ? ' (nothing is changed)' : ''}`,
    `key-sets   ${n(keysUsed)} in use, ${n(keysLimit)} for this receiver, ${n(maxKeys)} for all`,
    `points     ${n(totals.points)} in ${n(totals.requests)} requests`,
    `dropped    ${dropped.length === 0 ? '0' : dropped.map(([reason, points]) => `${n(points)} ${reason}`).join(', ')}`,
    `merged     ${n(totals.aggregated)}`,
    `overflow   ${n(totals.overflow)}`,
  ];
  if (mode === 'observe') {
    const { observedDropped, observedAggregated, observedOverflow } = totals;
    lines.push(
      `would have dropped ${n(observedDropped)}, merged ${n(observedAggregated)}, sent to overflow ${n(observedOverflow)}`,
    );
  }
  if (daily) {
    const { sum, limit, mode: how } = daily;
    lines.push(
      `day        ${n(sum)} series since midnight UTC, at most ${n(limit)} per metric${how === 'enforce' ? ' (enforced)' : ''}`,
    );
  }
  const sections = [
    table(
      ['METRIC', 'KEY-SETS', 'STRIPPED'],
      topMetrics
        .slice(0, SHOWN)
        .map(({ metric, keys, removed, overflowed }) => [
          metric,
          n(keys),
          [...removed, ...(overflowed ? ['(overflow)'] : [])].join(', ') || '-',
        ]),
    ),
    table(
      ['METRIC', 'SERIES TODAY', 'OF LIMIT', 'FORECAST'],
      (daily?.metrics ?? []).map(({ metric, keys, forecast }) => [
        metric,
        n(keys),
        `${Math.round((100 * keys) / daily!.limit)} %`,
        forecast === undefined ? '-' : n(forecast),
      ]),
    ),
    table(
      ['LABEL', 'METRIC', 'SCORE', 'BITS', ''],
      topLabels
        .slice(0, SHOWN)
        .map(({ label, metric, place, score, bits, removed, isProtected }) => [
          place === 'resource' ? `${label} (resource)` : label,
          metric,
          score.toFixed(2),
          bits.toFixed(1),
          removed ? 'stripped' : isProtected ? 'protected' : '',
        ]),
    ),
    table(
      ['WHEN', 'DECISION', 'METRIC', 'LABEL', 'SCORE', 'WHY'],
      decisions
        .slice(-SHOWN)
        .reverse()
        .map(({ at, kind, metric, label, score, why, enforced }) => [
          new Date(at).toISOString().slice(0, 19),
          enforced ? kind : `would ${kind}`,
          metric,
          label || '-',
          score.toFixed(2),
          why,
        ]),
    ),
  ].filter(Boolean);
  return `${[lines.join('\n'), ...sections].join('\n\n')}`;
}
