/**
 * What goes from Redis to the disk passes here, so that it can be held for a moment in which nothing is on the way: the only one in
 * which Redis and the disk together say what there is.
 */
export class Crossing {
  #passing = 0;
  #held: Promise<void> | undefined;
  #empty: (() => void) | undefined;

  /** Passes once nothing is held. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held) await this.#held;
    this.#passing++;
    try {
      return await work();
    } finally {
      if (--this.#passing === 0) this.#empty?.();
    }
  }

  /**
   * Lets nothing pass while it works; one at a time.
   * @param work told whether nothing is on the way: what was passing may take longer than `patienceMs`
   */
  async hold<T>(patienceMs: number, work: (isStill: boolean) => Promise<T>): Promise<T> {
    let open = () => {};
    this.#held = new Promise((resolve) => {
      open = resolve;
    });
    try {
      if (this.#passing > 0) await this.#untilEmpty(patienceMs);
      return await work(this.#passing === 0);
    } finally {
      this.#held = undefined;
      open();
    }
  }

  async #untilEmpty(patienceMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, patienceMs);
      this.#empty = () => {
        clearTimeout(late);
        resolve();
      };
    });
    this.#empty = undefined;
  }
}
