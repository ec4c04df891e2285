import { countText, durationText, numberText, percentText, sizeText } from '@nrdot/telemetry';
import type { Finding, Known } from './findings.ts';

/** Share of its daily series from which a metric is reported, by count and by forecast; and how many are named. */
const DAILY_NEAR = 0.8;
const DAILY_LIKELY = 0.2;
const DAILY_NAMED = 3;
const ACCOUNT_NEAR = 0.8;

/** What is near or above a limit on what may be sent: of the limiter, of a metric's day, of the account. */
export function limitFindings(status: Known): Finding[] {
  return [...limiter(status), ...daily(status), ...account(status)];
}

function limiter({ limiter: state, rates }: Known): Finding[] {
  if (!state || rates.limiterDropped === 0) return [];
  const text = `The cardinality limiter drops ${numberText(rates.limiterDropped)} data points per second: ${numberText(state.keysUsed)} of ${numberText(state.maxKeys)} key-sets are in use.`;
  const todo = '"nrdot limiter" names the metric and the label.';
  return [{ level: 'warning', code: 'limiter_drops', text, more: 'They were never accepted.', todo }];
}

/** A metric that has used most of its daily series, or will by its forecast. */
function daily({ limiter: state, at }: Known): Finding[] {
  if (!state?.daily) return [];
  const { limit, mode, metrics, day } = state.daily;
  const endMs = Date.parse(`${day}T00:00:00Z`) + 24 * 3_600_000;
  const near = metrics.filter(
    ({ keys, forecast = 0 }) =>
      keys >= DAILY_NEAR * limit || (forecast > limit && keys >= DAILY_LIKELY * limit),
  );
  if (near.length === 0) return [];
  const named = near.slice(0, DAILY_NAMED).map(({ metric, keys, forecast }) => {
    const atEnd = forecast && forecast > keys ? `, forecast ${numberText(forecast)}` : '';
    return `"${metric}" ${numberText(keys)}${atEnd}`;
  });
  const left = near.length - named.length;
  const others = left > 0 ? `, and ${countText(left, 'more metric')}` : '';
  const reached = near.some(({ keys }) => keys >= limit);
  const enforces = mode === 'enforce';
  const text = `${near.length === 1 ? 'One metric is' : `${near.length} metrics are`} ${reached ? 'at or above' : 'close to'} ${near.length === 1 ? 'its' : 'their'} limit of ${numberText(limit)} series for this UTC day (limiter.daily_keys): ${named.join('; ')}${others}.`;
  const more = enforces
    ? 'Beyond it, new series are merged or dropped (limiter.critical_action).'
    : `Beyond it, New Relic keeps the raw data but makes no roll-ups of the metric until midnight UTC, in ${durationText(Math.max(1, endMs - at) / 1000)}.`;
  const todo = `"nrdot limiter" shows the labels: list one in limiter.aggregate_labels, or ${enforces ? 'raise limiter.daily_keys' : 'set limiter.daily_mode: enforce'}.`;
  return [{ level: 'warning', code: 'daily_keys', text, more, todo }];
}

function account({ account: limits = [] }: Known): Finding[] {
  const near = limits.filter(({ perMinute, limitPerMinute }) => perMinute >= ACCOUNT_NEAR * limitPerMinute);
  if (near.length === 0) return [];
  const named = near.map(usageText);
  const text = `The last minute used ${named.join(' and ')} of the limits of the account (exporter.account_limits).`;
  const more = 'Beyond that the upstream answers 429, and the data waits.';
  const todo = 'Ask the upstream for a higher limit, or send less: larger batches mean fewer requests.';
  return [{ level: 'warning', code: 'account_limits', text, more, todo }];
}

/** `90 % of 100,000 requests a minute (traces)` */
export function usageText({
  of,
  signal,
  perMinute,
  limitPerMinute,
}: NonNullable<Known['account']>[number]): string {
  const limit = of === 'bytes' ? sizeText(limitPerMinute) : `${numberText(limitPerMinute)} ${of}`;
  return `${percentText(perMinute / limitPerMinute)} of ${limit} a minute${signal && perMinute > 0 ? ` (${signal})` : ''}`;
}
