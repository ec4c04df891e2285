/**
 * Where the CPU of the one-process form goes: by V8's own profiler by package and function, and what Redis executed for
 * a batch.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { monotonicMs } from './clock.ts';
import { nextRun } from './measure.ts';
import { cpuNow } from './sampler.ts';
import { onePipeline } from './systems.ts';
import { type Sink, send } from './upstream.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LOAD = { rate: 10_000, batchSize: 500, encoding: 'gzip' } as const;
const TOP = 25;

export interface ProfileResult {
  seconds: number;
  batches: number;
  /** What the operating system booked on the process, CPU ms per second; the parts are shares of it. */
  msPerSecond: number;
  packages: { name: string; msPerSecond: number }[];
  functions: { name: string; where: string; msPerSecond: number }[];
  /** What Redis ran, per batch; those that scripts called are among them, and in the time of `evalsha`. */
  commands: { name: string; perBatch: number; usPerBatch: number }[];
  scriptsPerBatch: number;
}

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  startTime: number;
  samples: number[];
  timeDeltas: number[];
}

/** Runs the pipeline from source under the profiler, at 20 requests/s. The profiler itself costs a few per cent. */
export async function profile(
  dir: string,
  sink: Sink,
  timing: { warmUpMs: number; measureMs: number },
): Promise<ProfileResult> {
  const profiles = join(dir, 'profiles');
  mkdirSync(profiles);
  const nodeFlags = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, '--cpu-prof-interval=500'];
  const system = await onePipeline({ from: 'source', nodeFlags }).start(dir, sink.url);
  let window: [number, number] = [0, 0];
  let commands: Map<string, Command> | undefined;
  let batches = 0;
  let cpuMs = 0;
  const redis = new Redis(system.redisUrl!.replace('unix://', ''));
  try {
    const load = (ms: number) =>
      send({ ...LOAD, endpoint: system.otlp, run: nextRun(), items: (LOAD.rate * ms) / 1000, prepare: true });
    await load(timing.warmUpMs);
    const before = await statistics(redis);
    const [fromMs, cpu] = [monotonicMs(), cpuNow(system.roots)];
    const sent = await load(timing.measureMs);
    window = [fromMs, monotonicMs()];
    cpuMs = (cpuNow(system.roots)['nrdot up'] ?? 0) - (cpu['nrdot up'] ?? 0);
    commands = difference(before, await statistics(redis));
    batches = sent.batches;
  } finally {
    redis.disconnect();
    await system.stop(); // writes the profile
  }
  // From the first request on: before it the process idles while bodies are made.
  const seconds = batches * (LOAD.batchSize / LOAD.rate);
  const msPerSecond = cpuMs / seconds;
  return {
    seconds,
    batches,
    msPerSecond,
    ...byPlace(profiles, window, msPerSecond),
    ...perBatch(commands, batches),
  };
}

/** @param msPerSecond to be divided among the places: the profiler counts the time of samples, the system CPU */
function byPlace(dir: string, [fromMs, toMs]: [number, number], msPerSecond: number) {
  const packages = new Map<string, number>();
  const functions = new Map<string, { where: string; name: string; ms: number }>();
  let allMs = 0;
  for (const file of readdirSync(dir)) {
    const { nodes, startTime, samples, timeDeltas } = JSON.parse(
      readFileSync(join(dir, file), 'utf8'),
    ) as CpuProfile;
    const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
    let atUs = startTime;
    samples.forEach((id, i) => {
      const us = timeDeltas[i] ?? 0;
      atUs += us;
      const frame = frames.get(id)!;
      if (atUs < fromMs * 1000 || atUs > toMs * 1000 || frame.functionName === '(idle)') return;
      const { name, where } = placeOf(frame);
      const ms = us / 1000;
      allMs += ms;
      packages.set(name, (packages.get(name) ?? 0) + ms);
      const key = `${frame.functionName} ${where}`;
      const before = functions.get(key)?.ms ?? 0;
      functions.set(key, { where, name: frame.functionName || '(anonymous)', ms: before + ms });
    });
  }
  const perSecond = (ms: number) => (ms / allMs) * msPerSecond;
  return {
    packages: [...packages]
      .map(([name, ms]) => ({ name, msPerSecond: perSecond(ms) }))
      .sort((a, b) => b.msPerSecond - a.msPerSecond),
    functions: [...functions.values()]
      .map(({ name, where, ms }) => ({ name, where, msPerSecond: perSecond(ms) }))
      .sort((a, b) => b.msPerSecond - a.msPerSecond)
      .slice(0, TOP),
  };
}

/** The package that a frame belongs to, and its file. */
function placeOf({ url, functionName }: CpuProfile['nodes'][number]['callFrame']) {
  if (functionName === '(program)') return { name: 'native code and system calls', where: '' };
  if (functionName === '(garbage collector)') return { name: 'garbage collection', where: '' };
  if (url.startsWith('node:')) return { name: 'Node’s own JavaScript', where: url };
  if (url.startsWith('wasm:')) return { name: 'WebAssembly kernel', where: '' };
  if (!url.startsWith('file:')) return { name: 'native code and system calls', where: '' };
  const path = relative(ROOT, fileURLToPath(url));
  const inModules = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path.slice(path.lastIndexOf('node_modules')));
  if (inModules) return { name: inModules[1]!, where: path.slice(path.lastIndexOf('node_modules/') + 13) };
  return { name: /^(\w+\/[\w-]+|\w+)/.exec(path)?.[0] ?? path, where: path };
}

type Command = { calls: number; us: number };

async function statistics(redis: Redis): Promise<Map<string, Command>> {
  const text = await redis.info('commandstats');
  return new Map(
    [...text.matchAll(/^cmdstat_([^:]+):calls=(\d+),usec=(\d+)/gm)].map(([, name, calls, us]) => [
      name!,
      { calls: Number(calls), us: Number(us) },
    ]),
  );
}

function difference(before: Map<string, Command>, after: Map<string, Command>): Map<string, Command> {
  return new Map(
    [...after].map(([name, { calls, us }]) => [
      name,
      { calls: calls - (before.get(name)?.calls ?? 0), us: us - (before.get(name)?.us ?? 0) },
    ]),
  );
}

function perBatch(commands: Map<string, Command> | undefined, batches: number) {
  const all = [...(commands ?? [])].filter(([name, { calls }]) => calls > 0 && name !== 'info');
  return {
    commands: all
      .map(([name, { calls, us }]) => ({ name, perBatch: calls / batches, usPerBatch: us / batches }))
      .sort((a, b) => b.usPerBatch - a.usPerBatch),
    scriptsPerBatch: (commands?.get('evalsha')?.calls ?? 0) / batches,
  };
}
