/** The thread in which a target takes its inputs. */
import { parentPort, workerData } from 'node:worker_threads';
import { seededRandom } from '@nrdot/testbed';
import { CurrentInput } from './current-input.ts';
import type { Fuzzed, Order } from './fuzz.ts';
import { mutate } from './mutate.ts';
import type { Target } from './targets.ts';

/** Inputs that were taken join the corpus, up to this many. */
const CORPUS_MAX = 256;
const SLOW_MS = 1_000;
/** So many inputs come in one turn of the event loop. What zlib held is given back between turns, of which a server has enough. */
const INPUTS_PER_TURN = 64;
const RSS_GROWTH_MAX_BYTES = 512 * 1024 * 1024;

async function feed({ module, target: name, seed, forMs, input: memory }: Order): Promise<Fuzzed> {
  const { TARGETS } = (await import(module)) as { TARGETS: readonly Target[] };
  const target = TARGETS.find((each) => each.name === name);
  if (!target) throw new Error(`${module} has no target ${name}`);
  const random = seededRandom(seed);
  const input = new CurrentInput(memory);
  const corpus = await target.corpus();
  const sound = corpus.length;
  const any = () => corpus[Math.floor(random() * corpus.length)]!;
  const next = (number: number): Buffer => {
    if (number < sound) return corpus[number]!;
    const drawn = target.draw?.(random);
    return drawn && random() < 0.5 ? drawn : mutate(drawn ?? any(), any(), random);
  };
  const rss = process.memoryUsage.rss();
  const done: Fuzzed = { target: name, seed, inputs: 0, taken: 0, slowestMs: 0, rssGrowthBytes: 0 };
  const end = performance.now() + forMs;
  while (performance.now() < end) {
    const bytes = next(done.inputs);
    input.begin(bytes);
    const cpu = process.threadCpuUsage();
    try {
      await target.take(bytes, random);
      done.taken++;
      if (corpus.length < CORPUS_MAX) corpus.push(bytes);
    } catch (error) {
      if (!target.known(error)) throw error;
    }
    // Time of this thread alone: a busy machine is not a hang.
    const { user, system } = process.threadCpuUsage(cpu);
    const tookMs = (user + system) / 1_000;
    done.slowestMs = Math.max(done.slowestMs, tookMs);
    if (tookMs > SLOW_MS) throw new Error(`it took ${tookMs} ms`);
    done.inputs++;
    if (done.inputs % INPUTS_PER_TURN === 0) await new Promise(setImmediate);
  }
  done.rssGrowthBytes = process.memoryUsage.rss() - rss;
  if (done.rssGrowthBytes > RSS_GROWTH_MAX_BYTES)
    throw new Error(`memory grew by ${done.rssGrowthBytes} bytes`);
  return done;
}

parentPort!.postMessage(await feed(workerData as Order));
process.exit(); // servers that were fuzzed still listen
