/** Feeds a target with mutated input for a while. No crash, no hang over a second, memory bounded. */
import { seededRandom } from '@nrdot/testbed';
import { mutate } from './mutate.ts';
import type { Target } from './targets.ts';

export interface Fuzzed {
  target: string;
  seed: number;
  inputs: number;
  /** Taken without an error. */
  taken: number;
  slowestMs: number;
  rssGrowthBytes: number;
}

/** Inputs that were taken join the corpus, up to this many. */
const CORPUS_MAX = 256;
const HANG_MS = 1_000;
/** So many inputs come in one turn of the event loop. What zlib held is given back between turns, of which a server has enough. */
const INPUTS_PER_TURN = 64;
const RSS_GROWTH_MAX_BYTES = 512 * 1024 * 1024;

/** @throws Error that names the seed and shows the input */
export async function fuzz(target: Target, seed: number, forMs: number): Promise<Fuzzed> {
  const random = seededRandom(seed);
  const corpus = await target.corpus();
  const rss = process.memoryUsage.rss();
  const done: Fuzzed = { target: target.name, seed, inputs: 0, taken: 0, slowestMs: 0, rssGrowthBytes: 0 };
  const any = () => corpus[Math.floor(random() * corpus.length)]!;
  const end = performance.now() + forMs;
  while (performance.now() < end) {
    const bytes = done.inputs < corpus.length ? corpus[done.inputs]! : mutate(any(), any(), random);
    const cpu = process.cpuUsage();
    try {
      await target.take(bytes, random);
      done.taken++;
      if (corpus.length < CORPUS_MAX) corpus.push(bytes);
    } catch (error) {
      if (!target.known(error)) throw failure(target, seed, bytes, error);
    }
    // Time of this process alone: a busy machine is not a hang.
    const { user, system } = process.cpuUsage(cpu);
    const tookMs = (user + system) / 1_000;
    done.slowestMs = Math.max(done.slowestMs, tookMs);
    if (tookMs > HANG_MS) throw failure(target, seed, bytes, new Error(`it took ${tookMs} ms`));
    done.inputs++;
    if (done.inputs % INPUTS_PER_TURN === 0) await new Promise(setImmediate);
  }
  done.rssGrowthBytes = process.memoryUsage.rss() - rss;
  if (done.rssGrowthBytes > RSS_GROWTH_MAX_BYTES)
    throw new Error(`${target.name}, seed ${seed}: memory grew by ${done.rssGrowthBytes} bytes`);
  return done;
}

function failure(target: Target, seed: number, bytes: Buffer, error: unknown): Error {
  const shown = bytes.toString('base64').slice(0, 4_000);
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new Error(`${target.name}, seed ${seed}, input ${shown}: ${why}`, { cause: error });
}
