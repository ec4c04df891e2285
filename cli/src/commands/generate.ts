import { parseDuration } from '@nrdot/config';
import { CLASSES } from '@nrdot/queue/priority-class';
import { type GenerateReport, generate, PROFILES, type Progress, type Workload } from '@nrdot/testbed';
import { given, parsed } from '../flag-values.ts';
import { print } from '../output.ts';

/** Flags with the name and value of a part of the workload. */
type Same = 'rate' | 'items' | 'cardinality' | 'encoding' | 'format' | 'connections';

export interface GenerateFlags extends Partial<Pick<Workload, Same>> {
  endpoint: string;
  profile?: string;
  batch?: number;
  duration?: string;
  signals?: string;
  classes?: string;
  json?: boolean;
}

/** After so long without an answer to any attempt, the address counts as unreachable. */
const NOBODY_MS = 3_000;
/** Maximum retry time, since a person is waiting. */
const RETRY_FOR_MS = 30_000;
const SIGNALS = ['traces', 'metrics', 'logs'];

/** `nrdot generate`: sends a load, shows its progress, and accounts for every item at the end. */
export async function generateCommand(flags: GenerateFlags): Promise<void> {
  const workload = workloadOf(flags);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const terminal = process.stderr.isTTY ?? false;
  let nobody = false;
  const report = await generate(
    { retryForMs: RETRY_FOR_MS, ...workload, endpoint: flags.endpoint },
    {
      signal: stop.signal,
      progress: (progress) => {
        show(progress, terminal);
        const { elapsedMs, attempts, lostAttempts } = progress;
        if (elapsedMs < NOBODY_MS || attempts === 0 || lostAttempts < attempts) return;
        nobody = true;
        stop.abort();
      },
    },
  );
  if (terminal) process.stderr.write('\r\u001b[K');
  if (nobody)
    throw new Error(
      `nothing answers at ${flags.endpoint} (${report.messages.join('; ')}). Is it running? "nrdot up" starts everything; --endpoint URL names another address.`,
    );
  print(flags, asJson(report), asText(report));
  if (report.acknowledgedItems < report.items) process.exitCode = 1;
}

function workloadOf(flags: GenerateFlags): Partial<Workload> {
  const { endpoint, json, profile: name, duration, batch, signals, classes, ...same } = flags;
  const profile = name === undefined ? {} : PROFILES[name];
  if (profile === undefined)
    throw new Error(`--profile ${name}: expected one of ${Object.keys(PROFILES).join(', ')}`);
  const durationMs = parsed('--duration', duration, parseDuration, 'a duration such as 30s');
  // Ends by itself if the flags or the profile set a number of items.
  const endless = flags.items === undefined && profile.items === undefined;
  return {
    ...profile,
    ...same,
    ...given({
      batchSize: batch,
      signals: signals === undefined ? undefined : shares('--signals', signals, SIGNALS),
      classes: classes === undefined ? undefined : shares('--classes', classes, CLASSES),
      durationMs: endless ? durationMs : undefined,
    }),
  };
}

/** Parses `a=3,b` to { a: 3, b: 1 }. */
function shares(flag: string, text: string, known: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    text.split(',').map((part) => {
      const [name = '', share = '1'] = part.trim().split('=');
      if (!known.includes(name) || !(Number(share) > 0))
        throw new Error(
          `${flag} ${text}: "${part}" is none; expected ${known.join(', ')} with shares, such as ${known[0]}=3`,
        );
      return [name, Number(share)];
    }),
  );
}

function show(progress: Progress, terminal: boolean): void {
  const { elapsedMs, sentItems, acknowledgedItems, itemsPerSecond, inFlight, retries } = progress;
  const line = `${(elapsedMs / 1000).toFixed(0).padStart(4)} s  sent ${sentItems}  acknowledged ${acknowledgedItems}  ${itemsPerSecond}/s  in flight ${inFlight}${retries > 0 ? `  retries ${retries}` : ''}`;
  process.stderr.write(terminal ? `\r\u001b[K${line}` : `${line}\n`);
}

function asText(report: GenerateReport): string {
  const { latency } = report;
  const lines = [
    `sent          ${report.items} items in ${report.batches} requests, ${(report.elapsedMs / 1000).toFixed(1)} s`,
    `acknowledged  ${report.acknowledgedItems} items, ${report.itemsPerSecond}/s`,
    `refused       ${report.refusedItems} items${report.rejectedItems > 0 ? `, ${report.rejectedItems} more by partial success` : ''}`,
    `unknown       ${report.unknownItems} items (no answer)`,
    `retries       ${report.retries}`,
    `latency       p50 ${latency.p50Ms.toFixed(1)} ms, p99 ${latency.p99Ms.toFixed(1)} ms, max ${latency.maxMs.toFixed(1)} ms (from the scheduled time of a request to its answer)`,
    ...report.messages.map((message) => `answer        ${message}`),
  ];
  return lines.join('\n');
}

function asJson(report: GenerateReport): object {
  const { acknowledged, partial, refused, unknown, ...rest } = report;
  const sets = Object.entries({ acknowledged, partial, refused, unknown });
  return { ...rest, ...Object.fromEntries(sets.map(([name, set]) => [name, set.toFlat().ranges])) };
}
