import type { InProcess } from '@nrdot/queue';
import type { Logger, Metrics, MetricsRegistry, Transitions } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { LiveConfig } from './live-config.ts';
import type { StatusBoard } from './status-board.ts';

/** What a process gives to the services that run in it. */
export interface Host {
  log: Logger;
  /** The one place that tells changes of state: `host.transitions.to('redis', 'away', …)`. */
  transitions: Transitions;
  metrics: Metrics;
  registry: MetricsRegistry;
  admin: AdminServer;
  /** The configuration, for what can change while running. */
  live: LiveConfig;
  /** Where services say how they are, for the console and `nrdot status`. */
  status: StatusBoard;
  /** Set when this process runs the Redis that its services use. */
  redisIsOwn?: boolean;
  /** Set when the whole pipeline runs in this process: its services wake each other without Redis. */
  inProcess?: InProcess;
}

/** A service that has been started. */
export interface RunningService {
  name: string;
  /** Data comes in by it from outside: it stops before the others do. */
  letsIn?: true;
  /** Why it cannot do its work now, in words for a person; undefined when it can. */
  notReady(): string | undefined;
  /**
   * What is wrong outside that it works on through, in words for a person: an upstream that is away is what the queue is for,
   * and no reason to send clients elsewhere.
   */
  warning?(): string | undefined;
  /** Whether Redis could be used at some time since it was started. */
  reached?(): boolean;
  /** Ends in order: takes nothing new, finishes what is in flight for at most `timeoutMs`, frees what it holds. */
  stop(timeoutMs: number): Promise<void>;
}

/** The host as one service sees it: its name is on every line of its log. */
export function hostFor(host: Host, service: string): Host {
  const log = host.log.child({ service });
  // A child has a level of its own.
  host.live.follow(({ log: { level } }) => () => {
    log.level = level;
  });
  return { ...host, log, transitions: host.transitions.of(log, service) };
}
