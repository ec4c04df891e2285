/** Longer than the pause between two batches at 10 batches/s; at lower rates there is little to save. */
const DEFER_MAX_MS = 100;

interface Deferred {
  sendAlone(): void;
  sendOn(connection: unknown): void;
}

/**
 * Settlements deferred for up to `DEFER_MAX_MS` so that each shares one write, one wake-up of Redis and one fsync with the next
 * command. Only a settlement that nothing waits for is deferred. After a kill in between, that batch is delivered twice, as with a
 * kill just before any settlement. Measured in one process at 20 requests/s × 500 spans: 0.90 of the CPU.
 */
export class DeferredSettlements {
  #deferred: Deferred[] = [];
  #timer: NodeJS.Timeout | undefined;

  /**
   * Defers a step until the next command, for `DEFER_MAX_MS` at most.
   * @param own the connection to use if no command comes, or if the command's connection fails
   * @param step must be idempotent: it may have run on a connection that was lost before it answered
   */
  defer<C, T>(own: C, step: (connection: C) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const sendAlone = () => void step(own).then(resolve, reject);
      const sendOn = (connection: unknown) => void step(connection as C).then(resolve, sendAlone);
      this.#deferred.push({ sendAlone, sendOn });
      this.#timer ??= setTimeout(() => {
        for (const settlement of this.#takeAll()) settlement.sendAlone();
      }, DEFER_MAX_MS);
    });
  }

  /** Called just before a command is written: sends all deferred settlements on the same connection. */
  sendOn(connection: unknown): void {
    for (const settlement of this.#takeAll()) settlement.sendOn(connection);
  }

  #takeAll(): Deferred[] {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return this.#deferred.splice(0);
  }
}
