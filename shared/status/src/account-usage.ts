import type { Config } from '@nrdot/config';
import type { AccountLimitStatus } from './pipeline-status.ts';
import type { SentStatus } from './process-status.ts';
import { RateMeter } from './rate-meter.ts';

export type AccountLimits = Config['exporter']['accountLimits'];

const MINUTE_MS = 60_000;
const STALE_MS = 90_000;
/** As often as processes report; readings of one minute are kept. */
const EVERY_MS = 2_000;
const SIGNALS = ['traces', 'metrics', 'logs'] as const;
type Sent = Record<(typeof SIGNALS)[number], SentStatus>;

/** What all exporters sent in the last minute, against the limits of the account. */
export class AccountUsage {
  readonly #meter = new RateMeter(MINUTE_MS, STALE_MS, EVERY_MS);

  /** @param at time of the exporter's report, Unix ms */
  record(exporter: string, sent: Sent, at: number): void {
    for (const signal of SIGNALS)
      for (const unit of ['requests', 'items', 'bytes'] as const)
        this.#meter.record(`${signal} ${unit}`, exporter, sent[signal][unit], at);
  }

  /** The configured limits, the most used one first. */
  read(limits: AccountLimits, now: number): AccountLimitStatus[] {
    const perMinute = (signal: string, unit: keyof SentStatus) =>
      Math.round(60 * this.#meter.perSecond(`${signal} ${unit}`, now));
    const requests = SIGNALS.map((signal) => ({ signal, perMinute: perMinute(signal, 'requests') }));
    const most = requests.reduce((a, b) => (b.perMinute > a.perMinute ? b : a));
    const bytes = SIGNALS.reduce((sum, signal) => sum + perMinute(signal, 'bytes'), 0);
    const records = perMinute('traces', 'items') + perMinute('logs', 'items');
    const all: (Omit<AccountLimitStatus, 'limitPerMinute'> & { limitPerMinute: number | undefined })[] = [
      { of: 'requests', ...most, limitPerMinute: limits.requestsPerMinute },
      { of: 'points', perMinute: perMinute('metrics', 'items'), limitPerMinute: limits.pointsPerMinute },
      { of: 'records', perMinute: records, limitPerMinute: limits.recordsPerMinute },
      { of: 'bytes', perMinute: bytes, limitPerMinute: limits.bytesPerMinute },
    ];
    return all
      .filter((one): one is AccountLimitStatus => one.limitPerMinute !== undefined)
      .sort((a, b) => b.perMinute / b.limitPerMinute - a.perMinute / a.limitPerMinute);
  }
}
