import type { InProcessHandOff } from './in-process-hand-off.ts';

/**
 * Wakes a waiter in the same process. Services in processes of their own use `RedisWakeSignal`; within one process that would
 * cost a round trip to learn what is known already.
 */
export class WakeSignal {
  #notified = false;
  #wake: (() => void) | undefined;

  /** Wakes the waiter; if nobody waits, the next wait returns at once. */
  notify(): void {
    this.#notified = true;
    this.#wake?.();
  }

  /** Ends the wait. */
  close(): void {
    this.notify();
  }

  /** Waits for `notify`, at most `timeoutMs`. Supports one waiter at a time. */
  async wait(timeoutMs: number): Promise<void> {
    if (!this.#notified) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#notified = false;
  }
}

/** What the services of a process that runs the whole pipeline share. */
export interface InProcess {
  /** There may be batches to move. */
  scheduler: WakeSignal;
  /** There may be batches to send. */
  exporter: WakeSignal;
  /** From the receiver to the exporter while the queue is empty. */
  handOff: InProcessHandOff;
}
