import { BLOCK_MAX_MS, disconnect, type RedisConnection } from '@nrdot/redis';
import { Cluster } from 'ioredis';

/** Redis rounds shorter timeouts to 0, which means for ever. */
const BLOCK_MIN_MS = 5;
/** How far the answer may exceed the timeout before `wait` returns without it. */
const GRACE_MS = 500;

/** A wake signal in Redis: a member of a sorted set, and a blocking read of it on a connection of its own. */
export class RedisWakeSignal {
  readonly #redis: RedisConnection;
  readonly #key: string;
  #reading: Promise<unknown> | undefined;

  /** @param redis a connection to the same server */
  constructor(redis: RedisConnection, key: string) {
    // Each has a `duplicate` of its own, which the type of both cannot call.
    this.#redis = redis instanceof Cluster ? redis.duplicate() : redis.duplicate();
    this.#redis.on('error', () => {}); // the other connection reports the outage
    this.#key = key;
  }

  /**
   * Waits for the signal, at most `timeoutMs` and at most `BLOCK_MAX_MS`. Without an answer from Redis it returns after that
   * time as well, so the caller must check for work itself.
   * @throws when Redis refuses the command
   */
  async wait(timeoutMs: number): Promise<void> {
    const blockMs = Math.max(BLOCK_MIN_MS, Math.min(timeoutMs, BLOCK_MAX_MS));
    // One read at a time: ioredis sends an unanswered one again on the next connection.
    this.#reading ??= this.#redis.bzpopmin(this.#key, blockMs / 1000).finally(() => {
      this.#reading = undefined;
    });
    this.#reading.catch(() => {}); // may reject after `wait` has returned
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, blockMs + GRACE_MS);
    await Promise.race([this.#reading, late]).finally(() => clearTimeout(timer));
  }

  /** Ends the wait, and the connection. */
  close(): void {
    disconnect(this.#redis);
  }
}
