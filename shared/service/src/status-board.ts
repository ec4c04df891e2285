import { hostname } from 'node:os';
import {
  EVENTS_WAITING_MAX,
  type ProcessStatus,
  type Readiness,
  type ServiceName,
  type ServiceParts,
  STATUS_EVERY_MS,
  type Store,
} from '@nrdot/queue';
import { alignedInterval, type Transition } from '@nrdot/telemetry';

/** What a service says of itself; asked for every two seconds, so it must be cheap. */
export type StatusPart<S extends ServiceName> = () =>
  | NonNullable<ServiceParts[S]>
  | Promise<NonNullable<ServiceParts[S]>>;

/** The `problem` of a service that needs Redis to do its work. */
export function problemOf(link: { notReady(): string | undefined }): Readiness {
  const problem = link.notReady();
  return problem ? { problem } : {};
}

/** The connection through which a process says how it is. */
interface Outlet {
  store: Pick<Store, 'publishStatus' | 'appendEvents'>;
  link: { notReady(): string | undefined };
}

/**
 * Collects what the services of this process say of themselves, and says it in Redis for the console and `nrdot status`:
 * one small write every two seconds for each process, however many services run in it.
 */
export class StatusBoard {
  readonly instance = `${hostname()}:${process.pid}`;
  readonly version: string;
  readonly #startedAt = Date.now();
  readonly #parts = new Map<ServiceName, StatusPart<ServiceName>>();
  readonly #outlets: Outlet[] = [];
  /** Events that are not in Redis yet, and the last ones of this process: all there is to show while Redis is away. */
  #waiting: Transition[] = [];
  #recent: Transition[] = [];
  #endTimer: (() => void) | undefined;
  #publishing = false;

  constructor(version: string) {
    this.version = version;
  }

  /** Adds a service. What it says goes out on its connection, or on that of another service of the process. */
  add<S extends ServiceName>(service: S, part: StatusPart<S>, outlet: Outlet): void {
    this.#parts.set(service, part as StatusPart<ServiceName>);
    this.#outlets.push(outlet);
    this.#endTimer ??= alignedInterval(() => void this.#publish(), STATUS_EVERY_MS);
  }

  /** Takes an event into the history, which is in Redis; until that can be told it waits here. */
  note(event: Transition): void {
    this.#waiting = [...this.#waiting, event].slice(-EVENTS_WAITING_MAX);
    this.#recent = [...this.#recent, event].slice(-EVENTS_WAITING_MAX);
  }

  /** The last events of this process, oldest first. */
  get recent(): readonly Transition[] {
    return this.#recent;
  }

  /** Those that are not in Redis yet. */
  get untold(): readonly Transition[] {
    return this.#waiting;
  }

  /** How this process is now. A service that cannot even say so is there with its problem. */
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

  /** Says what is left to be told, and then nothing more; what was said last is forgotten by itself. */
  async stop(): Promise<void> {
    this.#endTimer?.();
    if (this.#waiting.length > 0) await this.#publish();
  }

  async #publish(): Promise<void> {
    const outlet = this.#outlets.find(({ link }) => !link.notReady());
    if (this.#publishing || !outlet) return;
    this.#publishing = true;
    try {
      await outlet.store.publishStatus(await this.read());
      const told = this.#waiting;
      if (told.length > 0) {
        await outlet.store.appendEvents(told.map((event) => JSON.stringify(event)));
        this.#waiting = this.#waiting.filter((event) => !told.includes(event));
      }
    } catch {
      // Redis is away: its connections say so, and the next turn tries again.
    } finally {
      this.#publishing = false;
    }
  }
}
