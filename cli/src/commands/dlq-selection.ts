import { parseDuration } from '@nrdot/config';
import type { AdminFlags } from '../admin-client.ts';
import { given, parsed } from '../flag-values.ts';

/** Flags that select batches. */
export interface SelectionFlags extends AdminFlags {
  class?: string;
  rejected?: boolean;
  since?: string;
  until?: string;
}

/** Query for the admin API; a duration means so long ago. @throws Error that names the flag and what it accepts */
export function selectionQuery(flags: SelectionFlags, nowMs: number): Record<string, string> {
  const timeOf = (text: string) => {
    const agoMs = parseDuration(text);
    if (agoMs !== undefined) return String(nowMs - agoMs);
    const ms = /^\d{12,15}$/.test(text) ? Number(text) : Date.parse(text);
    return Number.isNaN(ms) ? undefined : String(ms);
  };
  const expected = 'how long ago, such as 2h, or a time such as 2026-11-24T10:00:00Z';
  return given({
    class: flags.class,
    rejected: flags.rejected ? 'true' : undefined,
    since: parsed('--since', flags.since, timeOf, expected),
    until: parsed('--until', flags.until, timeOf, expected),
  });
}
