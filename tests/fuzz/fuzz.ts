/**
 * Feeds a target with mutated input for a while, in a thread of its own that is watched: no crash, no hang, memory bounded. A
 * loop without an end never comes back to say so; here it is ended, and its input shown.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { CurrentInput } from './current-input.ts';

export interface Fuzzed {
  target: string;
  seed: number;
  inputs: number;
  /** Taken without an error. */
  taken: number;
  slowestMs: number;
  rssGrowthBytes: number;
}

/** What the thread is told. */
export interface Order {
  /** Module whose `TARGETS` has the target. */
  module: string;
  target: string;
  seed: number;
  forMs: number;
  input: SharedArrayBuffer;
}

export interface Deadlines {
  /** CPU time of this process for one input: a busy machine is not a hang. */
  cpuMs: number;
  /** For one that waits, and uses no CPU time. */
  idleMs: number;
}

const DEADLINES: Deadlines = { cpuMs: 2_000, idleMs: 60_000 };
/** Before the first input modules are loaded and a corpus is made. */
const STARTING_MS = 60_000;
const LOOK_EVERY_MS = 50;
const HEAP_MAX_MB = 1_024;
const SHOWN_CHARS = 4_000;
const TARGETS_MODULE = new URL('./targets.ts', import.meta.url).href;

/** @throws Error that names the seed and the number of the input, and shows it */
export async function fuzz(
  target: string,
  seed: number,
  forMs: number,
  module = TARGETS_MODULE,
  deadlines = DEADLINES,
): Promise<Fuzzed> {
  const input = new CurrentInput();
  const worker = new Worker(new URL('./feeder.ts', import.meta.url), {
    workerData: { module, target, seed, forMs, input: input.memory } satisfies Order,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MB },
  });
  const over = new AbortController();
  try {
    return await Promise.race([result(worker), hang(input, deadlines, over.signal)]);
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const shown = input.bytes.toString('base64').slice(0, SHOWN_CHARS);
    throw new Error(`${target}, seed ${seed}, input ${input.number} ${shown}: ${why}`, { cause: error });
  } finally {
    over.abort();
    await worker.terminate();
  }
}

function result(worker: Worker): Promise<Fuzzed> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`its thread ended with ${code}`)));
  });
}

/** Rejects when one input takes for ever. Settles otherwise never: it ends with the signal. */
async function hang(input: CurrentInput, { cpuMs, idleMs }: Deadlines, signal: AbortSignal): Promise<never> {
  let number = -1;
  let cpu = process.cpuUsage();
  let since = 0;
  while (!signal.aborted) {
    if (input.number !== number) {
      number = input.number;
      cpu = process.cpuUsage();
      since = performance.now();
    }
    const { user, system } = process.cpuUsage(cpu);
    const usedMs = (user + system) / 1_000;
    if (number > 0 && usedMs > cpuMs) throw new Error(`it has not come back after ${usedMs} ms of CPU time`);
    const allowedMs = number > 0 ? idleMs : STARTING_MS;
    if (performance.now() - since > allowedMs) throw new Error(`it has not come back after ${allowedMs} ms`);
    await wait(LOOK_EVERY_MS);
  }
  return new Promise(() => {});
}
