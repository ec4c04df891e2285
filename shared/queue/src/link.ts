import { setTimeout as wait } from 'node:timers/promises';
import { causeText } from '@nrdot/telemetry';
import {
  type ConnectionKind,
  connect,
  describeTarget,
  type RedisConnection,
  type RedisTarget,
} from './connection.ts';
import { type Expected, inspectServer } from './server.ts';

export interface LinkOptions {
  kind: ConnectionKind;
  name: string;
  commandTimeoutMs: number;
  expect: Expected;
}

export interface LinkEvents {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
  /** After a connection that had been lost. */
  reconnected?(): void;
}

const SAY_AGAIN_MS = 15_000;
const ASK_AGAIN_MS = 250;

/**
 * A connection to Redis together with what is known about the server behind it. After every (re)connect the server
 * is looked at again: one that evicts keys may not be given batches.
 */
export class RedisLink {
  readonly redis: RedisConnection;
  readonly #target: RedisTarget;
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  #state: 'connecting' | 'ready' | 'lost' | 'unfit' = 'connecting';
  #why = 'not connected yet';
  #wasReady = false;
  #closed = false;

  constructor(target: RedisTarget, options: LinkOptions, events: LinkEvents) {
    this.#target = target;
    this.#options = options;
    this.#events = events;
    this.redis = connect(target, {
      kind: options.kind,
      name: options.name,
      commandTimeoutMs: options.commandTimeoutMs,
      onState: (state, error) => (state === 'ready' ? void this.#inspect() : this.#lost(error)),
    });
  }

  /** Why Redis cannot be used now; undefined when it can. */
  notReady(): string | undefined {
    return this.#state === 'ready' ? undefined : `Redis at ${describeTarget(this.#target)}: ${this.#why}`;
  }

  /** Whether it could be used at some time since it was opened. */
  get wasReady(): boolean {
    return this.#wasReady;
  }

  /**
   * Waits for a usable Redis, says so now and then, and gives up only when it is closed.
   * @returns whether it can be used
   */
  async untilReady(): Promise<boolean> {
    let saidAt = 0;
    while (this.notReady() && !this.#closed) {
      await wait(this.#wasReady || saidAt === 0 ? 20 : ASK_AGAIN_MS);
      if (!this.notReady() || Date.now() - saidAt < SAY_AGAIN_MS) continue;
      if (saidAt === 0) {
        saidAt = 1; // the first look is silent: a Redis that is there answers within it
        await wait(ASK_AGAIN_MS);
        continue;
      }
      saidAt = Date.now();
      this.#events.warn(`waiting: ${this.notReady()}`);
    }
    return !this.notReady();
  }

  /** Closes the connection; what is under way fails. */
  close(): void {
    this.#closed = true;
    // One that waits for its next attempt would forget the timer and never fail what waits with it.
    if (this.redis.status === 'reconnecting') this.redis.connect().catch(() => {});
    this.redis.disconnect();
  }

  async #inspect(): Promise<void> {
    try {
      const report = await inspectServer(this.redis, this.#options.expect);
      if (this.#closed) return;
      for (const warning of report.warnings) this.#events.warn(warning);
      if (report.problems.length > 0) {
        this.#state = 'unfit';
        this.#why = report.problems.join('; ');
        this.#events.error(this.#why);
        return;
      }
      this.#state = 'ready';
      if (this.#wasReady) {
        this.#events.info('Redis is back');
        this.#events.reconnected?.();
      }
      this.#wasReady = true;
    } catch (error) {
      this.#why = causeText(error);
      // Busy loading its AOF, or gone again: the next look decides.
      if (!this.#closed) setTimeout(() => void this.#retry(), ASK_AGAIN_MS).unref();
    }
  }

  async #retry(): Promise<void> {
    if (!this.#closed && this.#state !== 'ready' && this.redis.status === 'ready') await this.#inspect();
  }

  #lost(error: Error | undefined): void {
    if (this.#closed) return;
    if (this.#state === 'ready')
      this.#events.warn(`lost Redis${error ? `: ${causeText(error)}` : ''}; will reconnect`);
    this.#state = 'lost';
    this.#why = error ? causeText(error) : 'connection lost';
  }
}
