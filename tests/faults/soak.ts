/** Load held: spans at a steady rate and a fault every half minute, while memory and descriptors are watched. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { generate, judge, mix32, seededRandom, waitUntil } from '@nrdot/testbed';
import type { Scene } from './catalogue.ts';
import { KINDS, kindOf } from './catalogue.ts';
import { drawFault } from './plan.ts';
import { LATE_MS } from './run.ts';
import { PROCESSES, type Stack } from './stack.ts';

export interface SoakOptions {
  seed: number;
  durationMs: number;
  spansPerSecond: number;
  faultEveryMs: number;
  /** Told of each fault as it begins. */
  tell(line: string): void;
}

/** What a process used in the second and in the last quarter of the run: medians of samples. */
export interface Held {
  process: string;
  rssBeforeMiB: number;
  rssAfterMiB: number;
  descriptorsBefore: number;
  descriptorsAfter: number;
}

export interface SoakResult {
  seed: number;
  form: string;
  seconds: number;
  spansPerSecond: number;
  faults: number;
  obligations: number;
  missing: number;
  invented: number;
  corrupted: number;
  duplicated: number;
  /** From the end of the load until nothing was queued or on disk and the books balanced. */
  drainedMs: number;
  held: Held[];
  /** In words; empty when all is well. */
  failure: string;
}

interface Sample {
  rss: number;
  descriptors: number;
}

const SAMPLE_MS = 2_000;
const BATCH = 500;
const CONNECTIONS = 16;
/** What a process may have more of in the last quarter than in the second: noise of the heap, and no leak. */
const MORE_RSS = { factor: 1.25, bytes: 32 * 2 ** 20 };
const MORE_DESCRIPTORS = 32;

/** These do something to the load itself, which is one long run here, or take what is on the disk. */
const LEFT_OUT = KINDS.filter(({ alone, targets }) => alone || targets('services').includes('client'));

export async function soak(stack: Stack, options: SoakOptions): Promise<SoakResult> {
  const { seed, durationMs, spansPerSecond, faultEveryMs, tell } = options;
  const random = seededRandom(mix32(seed));
  const run = mix32(seed ^ 0x50a4);
  const before = stack.mock.stats();
  const load = generate({
    endpoint: stack.otlp,
    run,
    seed: seed % 1_000,
    rate: spansPerSecond,
    durationMs,
    batchSize: BATCH,
    connections: CONNECTIONS,
    encoding: 'gzip',
    classes: { critical: 1, high: 2, normal: 3 },
    retryInitialMs: 50,
    retryMaxMs: 500,
    retryForMs: durationMs + LATE_MS,
    requestTimeoutMs: 4_000,
  });
  load.catch(() => {});
  const scene: Scene = {
    stack,
    random,
    twin: async () => {},
    neverSent: () => {},
    sent: async () => {},
    damaged: () => {},
  };
  const over = new AbortController();
  const samples = new Map<string, Sample[]>();
  const watching = watch(stack, samples, over.signal);
  const kinds = KINDS.filter((kind) => kind.forms.includes(stack.form) && !LEFT_OUT.includes(kind));
  const endsAt = performance.now() + durationMs;
  let faults = 0;
  while (performance.now() + faultEveryMs < endsAt) {
    const fault = drawFault(kinds, stack.form, random);
    const kind = kindOf(fault.kind);
    if (kind.needs?.(stack) === false) continue;
    const nextAt = performance.now() + faultEveryMs;
    tell(`${fault.kind} @ ${fault.target} for ${fault.lastsMs} ms`);
    const mend = await kind.strike(scene, fault.target, fault.lastsMs);
    await wait(fault.lastsMs);
    await mend();
    faults++;
    await wait(Math.max(0, nextAt - performance.now()));
  }
  const report = await load;
  const endedMs = performance.now();
  let failure = '';
  try {
    const quiet = async () => {
      const books = await stack.books();
      if (books.rejected > 0)
        await fetch(`${stack.admin('dlq')}/api/dlq/replay?rejected=true`, { method: 'POST' });
      const { queued, on_disk, rejected, difference } = books;
      if (queued + on_disk + rejected !== 0 || difference !== 0)
        throw new Error(`the books: ${JSON.stringify(books)}`);
      return judge(report, stack.mock.received(run)).missing.count === 0;
    };
    await waitUntil(quiet, { what: 'everything is drained', timeoutMs: LATE_MS, everyMs: 250 });
  } catch (error) {
    failure = (error as Error).message;
  }
  const drainedMs = Math.round(performance.now() - endedMs);
  over.abort();
  await watching;
  const { missing, invented } = judge(report, stack.mock.received(run));
  const after = stack.mock.stats();
  const corrupted =
    after.corrupted +
    after.foreign +
    after.misplaced +
    after.mixedClasses -
    (before.corrupted + before.foreign + before.misplaced + before.mixedClasses);
  const held = [...samples].map(([process, taken]) => heldOf(process, taken));
  const complaints = [
    failure,
    missing.count > 0 ? `${missing.count} missing: ${missing.describe()}` : '',
    invented.count > 0 ? `${invented.count} invented: ${invented.describe()}` : '',
    corrupted > 0 ? `${corrupted} corrupted` : '',
    report.refusedItems > 0 ? `sound requests were refused: ${JSON.stringify(report.refusedByStatus)}` : '',
    ...held.map(leak),
    ...stack.crashed().map((what) => `a process ended by itself: ${what}`),
  ];
  return {
    seed,
    form: stack.form,
    seconds: Math.round(durationMs / 1000),
    spansPerSecond: Math.round((report.acknowledged.count * 1000) / report.elapsedMs),
    faults,
    obligations: report.acknowledged.count,
    missing: missing.count,
    invented: invented.count,
    corrupted,
    duplicated: after.duplicates - before.duplicates,
    drainedMs,
    held,
    failure: complaints.filter(Boolean).join('; '),
  };
}

/** Takes samples of every process until the signal. */
async function watch(stack: Stack, into: Map<string, Sample[]>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    for (const name of PROCESSES[stack.form]) {
      try {
        const pid = await stack.pid(name);
        const rss =
          Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
        const descriptors = readdirSync(`/proc/${pid}/fd`).length;
        into.set(name, [...(into.get(name) ?? []), { rss, descriptors }]);
      } catch {
        // Killed just now, or frozen so that it can't say who it is.
      }
    }
    await wait(SAMPLE_MS, undefined, { signal }).catch(() => {});
  }
}

function heldOf(process: string, samples: readonly Sample[]): Held {
  const quarter = Math.floor(samples.length / 4);
  const [second, last] = [samples.slice(quarter, 2 * quarter), samples.slice(-Math.max(1, quarter))];
  const mib = (of: readonly Sample[]) => Math.round(median(of.map(({ rss }) => rss)) / 2 ** 20);
  const files = (of: readonly Sample[]) => median(of.map(({ descriptors }) => descriptors));
  return {
    process,
    rssBeforeMiB: mib(second),
    rssAfterMiB: mib(last),
    descriptorsBefore: files(second),
    descriptorsAfter: files(last),
  };
}

function leak({ process, rssBeforeMiB, rssAfterMiB, descriptorsBefore, descriptorsAfter }: Held): string {
  if (rssAfterMiB > rssBeforeMiB * MORE_RSS.factor + MORE_RSS.bytes / 2 ** 20)
    return `${process} grew from ${rssBeforeMiB} to ${rssAfterMiB} MiB`;
  if (descriptorsAfter > descriptorsBefore + MORE_DESCRIPTORS)
    return `${process} had ${descriptorsBefore} descriptors and has ${descriptorsAfter}`;
  return '';
}

function median(of: readonly number[]): number {
  return [...of].sort((a, b) => a - b)[Math.floor(of.length / 2)] ?? 0;
}
