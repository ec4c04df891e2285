/** CPU and memory of a system's processes over time, as the operating system books them. */
import { monotonicMs } from './clock.ts';
import { cpuMs, memoryOf, nameOf, treeOf } from './process-tree.ts';
import { quantile } from './quantile.ts';

const SAMPLE_MS = 100;
/** Memory is sampled less often than CPU: the kernel walks the page tables for it. */
const MEMORY_EVERY = 5;

/** Bytes, resident and proportional: the median of the samples, and the highest. */
export interface MemoryUse {
  rss: number;
  rssPeak: number;
  pss: number;
  pssPeak: number;
}

type ByName<T> = Record<string, T>;
type Sizes = { rss: number; pss: number };

export class Sampler {
  readonly #roots: ByName<number>;
  readonly #cpu: { atMs: number; byName: ByName<number> }[] = [];
  readonly #memory: { atMs: number; byName: ByName<Sizes> }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;

  /** @param roots processes by name; what they started is sampled with them, under the name of its program */
  constructor(roots: ByName<number>) {
    this.#roots = roots;
  }

  start(): this {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
    return this;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#sample();
  }

  #sample(): void {
    const atMs = monotonicMs();
    const pids = processes(this.#roots);
    const cpu: ByName<number> = {};
    for (const [pid, name] of pids) cpu[name] = (cpu[name] ?? 0) + cpuMs(pid);
    this.#cpu.push({ atMs, byName: cpu });
    if (this.#ticks++ % MEMORY_EVERY !== 0) return;
    this.#memory.push({ atMs, byName: sizes(pids) });
  }

  /** CPU ms by process between two times, between samples by proportion. */
  cpuBetween(fromMs: number, toMs: number): ByName<number> {
    const at = (ms: number, name: string) => {
      const after = this.#cpu.findIndex((sample) => sample.atMs >= ms);
      const b = this.#cpu[after === -1 ? this.#cpu.length - 1 : after]!;
      const a = this.#cpu[Math.max(0, (after === -1 ? this.#cpu.length : after) - 1)]!;
      const share = b.atMs === a.atMs ? 0 : Math.min(1, Math.max(0, (ms - a.atMs) / (b.atMs - a.atMs)));
      return (a.byName[name] ?? 0) * (1 - share) + (b.byName[name] ?? 0) * share;
    };
    const names = Object.keys(this.#cpu.at(-1)?.byName ?? {});
    return Object.fromEntries(names.map((name) => [name, at(toMs, name) - at(fromMs, name)]));
  }

  /** Memory by process and in all (`total`). */
  memorySince(fromMs: number): ByName<MemoryUse> {
    const samples = this.#memory.filter(({ atMs }) => atMs >= fromMs).map(({ byName }) => withTotal(byName));
    const names = Object.keys(samples.at(-1) ?? {});
    return Object.fromEntries(
      names.map((name) => {
        const of = (kind: 'rss' | 'pss') => samples.map((sample) => sample[name]?.[kind] ?? 0);
        return [
          name,
          {
            rss: quantile(of('rss'), 0.5),
            rssPeak: Math.max(...of('rss')),
            pss: quantile(of('pss'), 0.5),
            pssPeak: Math.max(...of('pss')),
          },
        ];
      }),
    );
  }
}

/** CPU ms that a system's processes have used until now, by name. */
export function cpuNow(roots: ByName<number>): ByName<number> {
  const cpu: ByName<number> = {};
  for (const [pid, name] of processes(roots)) cpu[name] = (cpu[name] ?? 0) + cpuMs(pid);
  return cpu;
}

/** Memory of a system's processes now, by name and in all. */
export function memoryNow(roots: ByName<number>): ByName<Sizes> {
  return withTotal(sizes(processes(roots)));
}

/** Process ids with their names: that of the root, or of its own program for what a root started. */
function processes(roots: ByName<number>): [number, string][] {
  return Object.entries(roots).flatMap(([name, root]) =>
    treeOf([root]).map((pid): [number, string] => [pid, pid === root ? name : nameOf(pid)]),
  );
}

function sizes(pids: readonly [number, string][]): ByName<Sizes> {
  const memory: ByName<Sizes> = {};
  for (const [pid, name] of pids) {
    const { rssBytes, pssBytes } = memoryOf(pid);
    const before = memory[name] ?? { rss: 0, pss: 0 };
    memory[name] = { rss: before.rss + rssBytes, pss: before.pss + pssBytes };
  }
  return memory;
}

function withTotal(byName: ByName<Sizes>): ByName<Sizes> {
  const all = Object.values(byName);
  const sum = (kind: 'rss' | 'pss') => all.reduce((total, memory) => total + memory[kind], 0);
  return { ...byName, total: { rss: sum('rss'), pss: sum('pss') } };
}
