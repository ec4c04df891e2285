import { BLOCK_MAX_MS, type RedisConnection } from './connection.ts';

/** Redis reads shorter waits as for ever. */
const BLOCK_MIN_MS = 5;
/** How much longer than asked for an answer may take before it is not waited for. */
const GRACE_MS = 500;

/** A wake signal in Redis: a member of a sorted set, and a blocking read of it on a connection of its own. */
export class WakeSignal {
  readonly #redis: RedisConnection;
  readonly #key: string;
  #reading: Promise<unknown> | undefined;

  constructor(redis: RedisConnection, key: string) {
    this.#redis = redis;
    this.#key = key;
  }

  /**
   * Waits for the signal, at most `timeoutMs` and no longer than `BLOCK_MAX_MS`. While the connection is silent or away that
   * is all it does: what is waited for may be there all the same, and whoever waits can look.
   * @throws when Redis refuses
   */
  async wait(timeoutMs: number): Promise<void> {
    const blockMs = Math.max(BLOCK_MIN_MS, Math.min(timeoutMs, BLOCK_MAX_MS));
    // One at a time: what an earlier wait has asked goes out again on the next connection.
    this.#reading ??= this.#redis.bzpopmin(this.#key, blockMs / 1000).finally(() => {
      this.#reading = undefined;
    });
    this.#reading.catch(() => {}); // of one that nobody waits for any more
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, blockMs + GRACE_MS);
    });
    try {
      await Promise.race([this.#reading, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
