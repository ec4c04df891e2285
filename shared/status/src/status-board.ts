import { hostname } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import type { Store } from '@nrdot/queue';
import { alignedInterval, oneRun, type Transition } from '@nrdot/telemetry';
import {
  EVENTS_WAITING_MAX,
  type ProcessStatus,
  type Readiness,
  type ServiceName,
  type ServiceParts,
  STATUS_EVERY_MS,
} from './process-status.ts';

/** A service's part of the status; called every two seconds, so it must be cheap. */
export type StatusPart<S extends ServiceName> = () => Part<S> | Promise<Part<S>>;
type Part<S extends ServiceName> = NonNullable<ServiceParts[S]>;

/** The `problem` of a service that needs Redis to work. */
export function problemOf(link: { notReady(): string | undefined }): Readiness {
  const problem = link.notReady();
  return problem ? { problem } : {};
}

/** The connection by which a process reports. */
interface Outlet {
  store: Pick<Store, 'publishStatus' | 'appendEvents'>;
  link: { notReady(): string | undefined };
}

/**
 * Collects the status of this process's services and publishes it in Redis for the console and `nrdot status`: one small write
 * every two seconds per process, however many services it has.
 */
export class StatusBoard {
  readonly instance = `${hostname()}:${process.pid}`;
  readonly version: string;
  readonly #startedAt = Date.now();
  readonly #parts = new Map<ServiceName, StatusPart<ServiceName>>();
  readonly #outlets: Outlet[] = [];
  /** Events that are not yet in Redis, and the last ones of this process: all there is to show while Redis is away. */
  #waiting: Transition[] = [];
  #recent: Transition[] = [];
  #endTimer: (() => void) | undefined;

  constructor(version: string) {
    this.version = version;
  }

  /** Adds a service. It reports by its own connection or that of another service of the process. */
  add<S extends ServiceName>(service: S, part: StatusPart<S>, outlet: Outlet): void {
    this.#parts.set(service, part as StatusPart<ServiceName>);
    this.#outlets.push(outlet);
    this.#endTimer ??= alignedInterval(() => void this.#publish(), STATUS_EVERY_MS);
  }

  /** Adds an event to the history in Redis; it is kept here until it can be written. */
  note(event: Transition): void {
    this.#waiting = [...this.#waiting, event].slice(-EVENTS_WAITING_MAX);
    this.#recent = [...this.#recent, event].slice(-EVENTS_WAITING_MAX);
  }

  get recent(): readonly Transition[] {
    return this.#recent;
  }

  get untold(): readonly Transition[] {
    return this.#waiting;
  }

  /** Current status of this process. A service whose part fails is included with that problem. */
  async read(): Promise<ProcessStatus> {
    const services: Record<string, Readiness> = {};
    for (const [service, part] of this.#parts) {
      try {
        services[service] = await part();
      } catch (error) {
        services[service] = { problem: (error as Error).message };
      }
    }
    return {
      instance: this.instance,
      at: Date.now(),
      startedAt: this.#startedAt,
      version: this.version,
      rssBytes: process.memoryUsage.rss(),
      services: services as ServiceParts,
    };
  }

  /** Publishes what is left, unless Redis takes longer than `timeoutMs`, and stops; the published status expires. */
  async stop(timeoutMs: number): Promise<void> {
    this.#endTimer?.();
    if (this.#waiting.length > 0)
      await Promise.race([this.#publish(), wait(timeoutMs, undefined, { ref: false })]);
  }

  readonly #publish = oneRun(async () => {
    const outlet = this.#outlets.find(({ link }) => !link.notReady());
    if (!outlet) return;
    try {
      await outlet.store.publishStatus(await this.read());
      const told = this.#waiting;
      if (told.length > 0) {
        await outlet.store.appendEvents(told.map((event) => JSON.stringify(event)));
        this.#waiting = this.#waiting.filter((event) => !told.includes(event));
      }
    } catch {
      // Redis is away: its connections report that, and the next turn retries.
    }
  });
}
