import type { DirectLane } from './direct-lane.ts';

/**
 * Wakes those who sleep in the same process. Where a service is alone in its process the other side rings through
 * Redis (a blocking read on a sorted set); in one process that is a round trip to learn what was known already.
 */
export class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  /** Wakes the sleeper; when nobody sleeps, the next sleep is none. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Sleeps until it is rung, at most `timeoutMs`. One sleeper at a time. */
  async wait(timeoutMs: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}

/** The bells of a process that runs the whole pipeline. */
export interface Bells {
  /** There may be something to decide. */
  scheduler: Bell;
  /** There may be something to send. */
  exporter: Bell;
  /** From the receiver to the exporter, when nothing waits. */
  lane: DirectLane;
}
