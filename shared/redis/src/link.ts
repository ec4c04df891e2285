import { setTimeout as wait } from 'node:timers/promises';
import { alignedInterval, causeText } from '@nrdot/telemetry';
import {
  type ConnectionKind,
  connect,
  describeTarget,
  disconnect,
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
  prefix: string;
  /** What happens while Redis is away, for the log. */
  meanwhile?: string;
  expect: Expected;
  recheckMs?: number;
  reconnected?(): void;
}

export interface LinkLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

const LOOK_MS = 20;
/** A Redis that is running answers before it is said to be waited for. */
const SAY_FIRST_MS = 500;
const SAY_AGAIN_MS = 15_000;
const ASK_AGAIN_MS = 250;
const PROBE_MS = 2_000;
const RECHECK_MS = 30_000;

/**
 * A connection to Redis, and what is known about its server. The server is inspected after every (re)connect and every half
 * minute, because batches must not go to one that evicts keys. A probe every two seconds detects a peer that has vanished.
 */
export class RedisLink {
  readonly redis: RedisConnection;
  readonly #target: RedisTarget;
  readonly #options: LinkOptions;
  readonly #log: LinkLog;
  readonly #endTimers: (() => void)[];
  #state: 'connecting' | 'ready' | 'lost' | 'unfit' = 'connecting';
  #reason = 'not connected yet';
  /** The error that Redis answers to everything, such as CLUSTERDOWN. */
  #refusal: string | undefined;
  #wasReady = false;
  #readyAtMs = Number.POSITIVE_INFINITY;
  #inspecting = false;
  #probing = false;
  #warned: ReadonlySet<string> = new Set();
  #closed = false;

  constructor(target: RedisTarget, options: LinkOptions, log: LinkLog) {
    this.#target = target;
    this.#options = options;
    this.#log = log;
    const { kind, name, commandTimeoutMs } = options;
    this.redis = connect(target, {
      ...{ kind, name, commandTimeoutMs },
      onState: (state, error) => (state === 'ready' ? void this.#inspect() : this.#lost(error)),
    });
    this.#endTimers = [
      alignedInterval(() => void this.#probe(), PROBE_MS),
      alignedInterval(() => this.#recheck(), options.recheckMs ?? RECHECK_MS),
    ];
  }

  /** Why Redis cannot be used now; undefined if it can. */
  notReady(): string | undefined {
    const reason = this.#state === 'ready' ? this.#refusal : this.#reason;
    return reason === undefined ? undefined : `Redis at ${describeTarget(this.#target)}: ${reason}`;
  }

  /** Whether Redis was usable at any time since this was opened. */
  get wasReady(): boolean {
    return this.#wasReady;
  }

  /** Time since Redis became usable, at first or again, in ms. */
  get readyForMs(): number {
    return performance.now() - this.#readyAtMs;
  }

  /**
   * Waits for a usable Redis and logs from time to time why there is none. Ends only on success or `close`.
   * @returns whether it is usable
   */
  async untilReady(): Promise<boolean> {
    let sayAtMs = performance.now() + SAY_FIRST_MS;
    while (this.notReady() && !this.#closed) {
      await wait(LOOK_MS);
      if (!this.notReady() || performance.now() < sayAtMs) continue;
      sayAtMs = performance.now() + SAY_AGAIN_MS;
      this.#log.warn(`waiting: ${this.notReady()}`);
    }
    return !this.notReady();
  }

  close(): void {
    this.#closed = true;
    for (const end of this.#endTimers) end();
    disconnect(this.redis);
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
      // Commands that fail with their connection tell less than the connection's own error.
      if (this.#state === 'connecting' || (error as Error).name === 'ReplyError')
        this.#reason = refusalText(causeText(error));
      // Redis is loading its AOF, or was lost again: check again soon.
      if (!this.#closed) setTimeout(() => this.#retry(), ASK_AGAIN_MS).unref();
    } finally {
      this.#inspecting = false;
    }
  }

  /** Logs new warnings, and those that no longer hold. */
  #tell(warnings: readonly string[]): void {
    for (const warning of warnings) if (!this.#warned.has(warning)) this.#log.warn(warning);
    for (const warning of this.#warned)
      if (!warnings.includes(warning)) this.#log.info(`resolved: ${warning}`);
    this.#warned = new Set(warnings);
  }

  #unfit(reason: string): void {
    const isNews = this.#state !== 'unfit' || this.#reason !== reason;
    this.#state = 'unfit';
    this.#reason = reason;
    if (isNews) this.#log.error(reason);
  }

  #fit(): void {
    const before = this.#state;
    if (before === 'ready') return;
    this.#state = 'ready';
    this.#readyAtMs = performance.now();
    this.#refusal = undefined;
    if (before === 'unfit') this.#log.info('Redis meets the requirements again');
    else if (this.#wasReady) {
      this.#log.info('Redis is back');
      this.#options.reconnected?.();
    }
    this.#wasReady = true;
  }

  #retry(): void {
    if (!this.#closed && this.#state !== 'ready' && this.redis.status === 'ready') void this.#inspect();
  }

  #recheck(): void {
    if (this.#state === 'ready' || this.#state === 'unfit') void this.#inspect();
  }

  /**
   * Reads a key that does not exist. The connection notices silence only while a command is in flight; on a Cluster this is the
   * connection to the node that has the pipeline's slot.
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
      // Any other error is the connection's, which reports it itself.
      if ((error as Error).name === 'ReplyError') this.#answered(refusalText((error as Error).message));
    } finally {
      clearTimeout(late);
      this.#probing = false;
    }
  }

  #answered(refusal: string | undefined): void {
    if (refusal && refusal !== this.#refusal) this.#log.warn(`Redis refuses: ${refusal}`);
    if (!refusal && this.#refusal) this.#log.info('Redis accepts commands again');
    this.#refusal = refusal;
    // A Cluster client keeps its state while the connection to a single node is replaced.
    if (this.#state === 'lost' && this.redis.status === 'ready') void this.#inspect();
  }

  #lost(error: Error | undefined): void {
    if (this.#closed) return;
    const reason = error ? causeText(error) : 'connection lost';
    if (this.#state === 'ready') {
      const { meanwhile } = this.#options;
      const then = meanwhile ? `${meanwhile} until it answers` : 'will reconnect';
      this.#log.warn(`lost Redis: ${reason}; ${then}`);
    }
    // Lost for one reason, and refused for another, which waiting does not mend.
    else if (error instanceof RedisRefusal && reason !== this.#reason)
      this.#log.warn(`Redis refuses: ${reason}`);
    this.#state = 'lost';
    this.#reason = reason;
  }
}
