import { parseDuration } from '@nrdot/config';
import { type GenerateReport, generate, PROFILES, type Progress, type Workload } from '@nrdot/testbed';

export interface GenerateFlags {
  endpoint: string;
  profile?: string;
  rate?: number;
  batch?: number;
  duration?: string;
  items?: number;
  signals?: string;
  classes?: string;
  cardinality?: number;
  encoding?: Workload['encoding'];
  format?: Workload['format'];
  connections?: number;
  json?: boolean;
}

/** After so long without an answer to any attempt, the address counts as unreachable. */
const NOBODY_MS = 3_000;
/** Maximum retry time, since a person is waiting. */
const RETRY_FOR_MS = 30_000;
const SIGNALS = ['traces', 'metrics', 'logs'];
const CLASSES = ['critical', 'high', 'normal'];

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
  if (flags.json) process.stdout.write(`${JSON.stringify(asJson(report), null, 2)}\n`);
  else process.stdout.write(asText(report));
  if (report.acknowledgedItems < report.items) process.exitCode = 1;
}

function workloadOf(flags: GenerateFlags): Partial<Workload> {
  const profile = flags.profile === undefined ? {} : PROFILES[flags.profile];
  if (profile === undefined) {
    throw new Error(`--profile ${flags.profile}: expected one of ${Object.keys(PROFILES).join(', ')}`);
  }
  const durationMs = flags.duration === undefined ? undefined : parseDuration(flags.duration);
  if (flags.duration !== undefined && durationMs === undefined) {
    throw new Error(`--duration ${flags.duration}: expected a duration such as 30s`);
  }
  const given: Partial<Workload> = {
    rate: flags.rate,
    batchSize: flags.batch,
    items: flags.items,
    cardinality: flags.cardinality,
    encoding: flags.encoding,
    format: flags.format,
    connections: flags.connections,
    signals: flags.signals === undefined ? undefined : shares('--signals', flags.signals, SIGNALS),
    classes: flags.classes === undefined ? undefined : shares('--classes', flags.classes, CLASSES),
  } as Partial<Workload>;
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  // Ends by itself if the flags or the profile set a number of items.
  const endless = flags.items === undefined && profile.items === undefined;
  return { ...profile, ...set, ...(endless && durationMs !== undefined ? { durationMs } : {}) };
}

/** Parses `a=3,b` to { a: 3, b: 1 }. */
function shares(flag: string, text: string, known: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    text.split(',').map((part) => {
      const [name = '', share = '1'] = part.trim().split('=');
      if (!known.includes(name) || !(Number(share) > 0)) {
        throw new Error(
          `${flag} ${text}: "${part}" is none; expected ${known.join(', ')} with shares, such as ${known[0]}=3`,
        );
      }
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
  return `${lines.join('\n')}\n`;
}

function asJson(report: GenerateReport): object {
  const { acknowledged, partial, refused, unknown, ...rest } = report;
  return {
    ...rest,
    acknowledged: acknowledged.toFlat().ranges,
    partial: partial.toFlat().ranges,
    refused: refused.toFlat().ranges,
    unknown: unknown.toFlat().ranges,
  };
}
