/** What a system under test is, ours or a peer. */
import type { Process } from '@nrdot/testbed';

export interface RunningSystem {
  /** Base URL that takes OTLP/HTTP. */
  otlp: string;
  /** All of them, where several receivers run. */
  receivers: readonly string[];
  /** Its processes by name; what they started belongs to them. */
  roots: Record<string, number>;
  /** Of its Redis, where it has one. */
  redisUrl?: string;
  /** What it sends has no ids, so that items are counted and not told apart. */
  withoutIds?: boolean;
  output(): string;
  stop(): Promise<void>;
}

export interface System {
  name: string;
  /** What an acknowledged batch has been through when the client sees its 200. */
  durability: 'fsynced' | 'written' | 'in memory';
  /** Of a peer: what it is, with its version. */
  version?: string;
  /** What it takes; all when absent. */
  signals?: readonly string[];
  start(dir: string, upstream: string): Promise<RunningSystem>;
}

/** What there is to say of a system once its processes run. */
export function running(otlp: string, processes: Record<string, Process>): RunningSystem {
  const all = Object.entries(processes);
  return {
    otlp,
    receivers: [otlp],
    roots: Object.fromEntries(all.map(([name, { pid }]) => [name, pid])),
    output: () => all.map(([name, process]) => `${name}: ${process.output(10)}`).join('\n'),
    stop: async () => {
      for (const [, process] of all.reverse()) await process.end('SIGTERM');
    },
  };
}
