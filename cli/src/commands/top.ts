import { setTimeout as wait } from 'node:timers/promises';
import type { PipelineStatus } from '@nrdot/status';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { errorJson } from '../error-json.ts';
import { printLine } from '../output.ts';
import { statusLine, statusLines } from '../status-view.ts';
import { Screen, usesColour } from '../terminal.ts';

/** q, Escape, Ctrl-C and Ctrl-D. On a raw terminal, Ctrl-C sends no signal. */
const ENDS = new Set(['q', 'Q', '\u001b', '\u0003', '\u0004']);

interface TopFlags extends AdminFlags {
  /** Interval in ms. */
  every: number;
  /** Number of snapshots; without it, until it is ended. */
  count?: number;
}

/** `nrdot top`: the status, refreshed in place on a terminal, one line per snapshot elsewhere. */
export async function topCommand(flags: TopFlags): Promise<void> {
  const client = new AdminClient(flags);
  const ended = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => ended.abort());
  process.stdout.on('error', () => ended.abort()); // its reader has gone, as `head` does
  if (flags.json || !process.stdout.isTTY) return plain(client, flags, ended.signal);
  const colour = usesColour(process.stdout);
  using screen = new Screen(process.stdout, process.stdin, (key) => ENDS.has(key) && ended.abort());
  const foot = `every ${flags.every / 1000} s; q or Ctrl-C ends`;
  let last: string[] = [];
  for await (const seen of snapshots(client, flags, ended.signal)) {
    if (seen instanceof Error) screen.draw([seen.message, `Trying again ${foot}`, '', ...last]);
    else {
      last = statusLines(seen, { url: client.url, colour, columns: process.stdout.columns });
      screen.draw([...last, '', foot]);
    }
  }
}

async function plain(client: AdminClient, flags: TopFlags, signal: AbortSignal): Promise<void> {
  for await (const seen of snapshots(client, flags, signal)) {
    if (seen instanceof Error) printLine(flags, errorJson(seen), seen.message);
    else printLine(flags, seen, statusLine(seen));
  }
}

/** A status per interval, or the reason why there is none: a service that is away may come back. */
async function* snapshots(
  client: AdminClient,
  { every, count = Number.POSITIVE_INFINITY }: TopFlags,
  signal: AbortSignal,
): AsyncGenerator<PipelineStatus | Error> {
  for (let i = 0; i < count && !signal.aborted; i++) {
    if (i > 0) await wait(every, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    yield await client.get<PipelineStatus>('/api/status').catch((error: Error) => error);
  }
}
