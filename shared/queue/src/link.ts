import { setTimeout as wait } from 'node:timers/promises';
import { causeText } from '@nrdot/telemetry';
import {
  type ConnectionKind,
  connect,
  describeTarget,
  type RedisConnection,
  RedisRefusal,
  type RedisTarget,
  refusalText,
  silenceMaxMs,
} from './connection.ts';
import { type Expected, inspectServer } from './server.ts';

export interface LinkOptions {
  kind: ConnectionKind;
  name: string;
  commandTimeoutMs: number;
  /** Of the keys, with its hash tag. */
  prefix: string;
  /** What happens while Redis is away, in words for the log. */
  meanwhile?: string;
  expect: Expected;
  /** How often what Redis is, is looked at again; `RECHECK_MS` unless a test is in a hurry. */
  recheckMs?: number;
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
const PROBE_MS = 2_000;
const RECHECK_MS = 30_000;

/**
 * A connection to Redis together with what is known about the server behind it. What the server is, is looked at after
 * every (re)connect and every half minute: one that evicts keys may not be given batches. Whether it answers is asked every
 * two seconds: a peer that is gone without a word is one that does not answer.
 */
export class RedisLink {
  readonly redis: RedisConnection;
  readonly #target: RedisTarget;
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #timers: NodeJS.Timeout[];
  #state: 'connecting' | 'ready' | 'lost' | 'unfit' = 'connecting';
  #reason = 'not connected yet';
  /** What Redis says to everything, such as CLUSTERDOWN. */
  #refusal: string | undefined;
  #wasReady = false;
  #inspecting = false;
  #probing = false;
  #warned: ReadonlySet<string> = new Set();
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
    this.#timers = [
      setInterval(() => void this.#probe(), PROBE_MS).unref(),
      setInterval(() => void this.#recheck(), options.recheckMs ?? RECHECK_MS).unref(),
    ];
  }

  /** Why Redis cannot be used now; undefined when it can. */
  notReady(): string | undefined {
    const reason = this.#state === 'ready' ? this.#refusal : this.#reason;
    return reason === undefined ? undefined : `Redis at ${describeTarget(this.#target)}: ${reason}`;
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

  /** Closes the connection; what is in flight fails. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    // One that waits for its next attempt would forget the timer and never fail what waits with it.
    if (this.redis.status === 'reconnecting') this.redis.connect().catch(() => {});
    this.redis.disconnect();
  }

  async #inspect(): Promise<void> {
    if (this.#inspecting) return;
    this.#inspecting = true;
    try {
      const report = await inspectServer(this.redis, this.#options.prefix, this.#options.expect);
      if (this.#closed) return;
      this.#tell(report.warnings);
      if (report.problems.length > 0) this.#unfit(report.problems.join('; '));
      else this.#fit();
    } catch (error) {
      // What fails with its connection says less than why that was lost.
      if (this.#state === 'connecting' || (error as Error).name === 'ReplyError')
        this.#reason = refusalText(causeText(error));
      // Busy loading its AOF, or gone again: the next look decides.
      if (!this.#closed) setTimeout(() => void this.#retry(), ASK_AGAIN_MS).unref();
    } finally {
      this.#inspecting = false;
    }
  }

  /** Says what is new, and what is no longer so. */
  #tell(warnings: readonly string[]): void {
    for (const warning of warnings) if (!this.#warned.has(warning)) this.#events.warn(warning);
    for (const warning of this.#warned)
      if (!warnings.includes(warning)) this.#events.info(`no longer so: ${warning}`);
    this.#warned = new Set(warnings);
  }

  #unfit(reason: string): void {
    const isNews = this.#state !== 'unfit' || this.#reason !== reason;
    this.#state = 'unfit';
    this.#reason = reason;
    if (isNews) this.#events.error(reason);
  }

  #fit(): void {
    const before = this.#state;
    if (before === 'ready') return;
    this.#state = 'ready';
    this.#refusal = undefined;
    if (before === 'unfit') this.#events.info('Redis is as it has to be again');
    else if (this.#wasReady) {
      this.#events.info('Redis is back');
      this.#events.reconnected?.();
    }
    this.#wasReady = true;
  }

  async #retry(): Promise<void> {
    if (!this.#closed && this.#state !== 'ready' && this.redis.status === 'ready') await this.#inspect();
  }

  async #recheck(): Promise<void> {
    if (this.#state === 'ready' || this.#state === 'unfit') await this.#inspect();
  }

  /**
   * Asks for something that exists nowhere. What does not answer is noticed by the connection, which is silent only while
   * something is asked of it; on a Cluster, by the one to the node with the pipeline's slot.
   */
  async #probe(): Promise<void> {
    if (this.#state !== 'ready' || this.#probing) return;
    this.#probing = true;
    const silenceMs = silenceMaxMs(this.#options);
    const silent = () => this.#lost(new Error(`no answer within ${silenceMs / 1000} s`));
    const late = setTimeout(silent, silenceMs).unref();
    try {
      await this.redis.exists(`${this.#options.prefix}:probe`);
      this.#answered(undefined);
    } catch (error) {
      // Anything else is the connection's end, which says so itself.
      if ((error as Error).name === 'ReplyError') this.#answered(refusalText((error as Error).message));
    } finally {
      clearTimeout(late);
      this.#probing = false;
    }
  }

  #answered(refusal: string | undefined): void {
    if (refusal && refusal !== this.#refusal) this.#events.warn(`Redis refuses: ${refusal}`);
    if (!refusal && this.#refusal) this.#events.info('Redis refuses no longer');
    this.#refusal = refusal;
    // A Cluster keeps its state while the connection to one node is replaced.
    if (this.#state === 'lost' && this.redis.status === 'ready') void this.#inspect();
  }

  #lost(error: Error | undefined): void {
    if (this.#closed) return;
    const reason = error ? causeText(error) : 'connection lost';
    if (this.#state === 'ready') {
      const { meanwhile } = this.#options;
      this.#events.warn(
        `lost Redis: ${reason}; ${meanwhile ? `${meanwhile} until it answers` : 'will reconnect'}`,
      );
    }
    // Gone for one reason, and kept out for another that waiting does not mend.
    else if (error instanceof RedisRefusal && reason !== this.#reason)
      this.#events.warn(`Redis refuses: ${reason}`);
    this.#state = 'lost';
    this.#reason = reason;
  }
}
