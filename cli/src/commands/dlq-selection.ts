import { parseDuration } from '@nrdot/config';
import type { AdminFlags } from '../admin-client.ts';

/** Flags that select batches. */
export interface SelectionFlags extends AdminFlags {
  class?: string;
  rejected?: boolean;
  since?: string;
  until?: string;
}

/** Query for the admin API; a duration means so long ago. @throws Error that names the flag and what it accepts */
export function selectionQuery(flags: SelectionFlags, nowMs: number): Record<string, string> {
  const { class: ofClass, rejected, since, until } = flags;
  return {
    ...(ofClass === undefined ? {} : { class: ofClass }),
    ...(rejected ? { rejected: 'true' } : {}),
    ...(since === undefined ? {} : { since: String(timeOf('--since', since, nowMs)) }),
    ...(until === undefined ? {} : { until: String(timeOf('--until', until, nowMs)) }),
  };
}

function timeOf(flag: string, text: string, nowMs: number): number {
  const agoMs = parseDuration(text);
  if (agoMs !== undefined) return nowMs - agoMs;
  const ms = /^\d{12,15}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(ms))
    throw new Error(
      `${flag} ${text}: expected how long ago, such as 2h, or a time such as 2026-11-24T10:00:00Z`,
    );
  return ms;
}
