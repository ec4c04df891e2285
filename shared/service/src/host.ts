import type { InProcess } from '@nrdot/queue';
import type { StatusBoard } from '@nrdot/status';
import type { Logger, Metrics, MetricsRegistry, Transitions } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { LiveConfig } from './live-config.ts';

/** What a process provides to the services that run in it. */
export interface Host {
  log: Logger;
  /** Reports changes of state: `host.transitions.to('redis', 'away', …)`. */
  transitions: Transitions;
  metrics: Metrics;
  registry: MetricsRegistry;
  admin: AdminServer;
  /** The configuration, with changes while running. */
  live: LiveConfig;
  /** Where services report their status, for the console and `nrdot status`. */
  status: StatusBoard;
  /** Set when this process runs the Redis that its services use. */
  redisIsOwn?: boolean;
  /** Set if the whole pipeline runs in this process: its services wake each other without Redis. */
  inProcess?: InProcess;
}

/** A service that has been started. */
export interface RunningService {
  name: string;
  /** It receives data from outside, so it stops before the others. */
  letsIn?: true;
  /** Why it cannot work now, for people; undefined if it can. */
  notReady(): string | undefined;
  /**
   * An external problem despite which it works, for people: an upstream that is away is what the queue is for, and no reason to
   * send clients elsewhere.
   */
  warning?(): string | undefined;
  /** Whether Redis was usable at any time since it was started. */
  reached?(): boolean;
  /** Stops gracefully: accepts nothing new, finishes what is in flight for at most `timeoutMs`, releases what it holds. */
  stop(timeoutMs: number): Promise<void>;
}

/** The host for one service: every line of its log has its name. */
export function hostFor(host: Host, service: string): Host {
  const log = host.log.child({ service });
  // A child logger has a level of its own.
  host.live.follow(({ log: { level } }) => () => {
    log.level = level;
  });
  return { ...host, log, transitions: host.transitions.of(log, service) };
}
