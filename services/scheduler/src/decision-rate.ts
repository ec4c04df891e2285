const WINDOW_S = 10;

/** Decisions per second over the last ten full seconds, without a timer. */
export class DecisionRate {
  readonly #counts = new Float64Array(WINDOW_S + 1);
  /** The current second. */
  #second = Number.NEGATIVE_INFINITY;

  count(decisions: number, nowMs: number): void {
    this.#advance(nowMs);
    const at = this.#second % this.#counts.length;
    this.#counts[at] = this.#counts[at]! + decisions;
  }

  /** Excludes the current second. */
  perSecond(nowMs: number): number {
    this.#advance(nowMs);
    const present = this.#counts[this.#second % this.#counts.length]!;
    return (this.#counts.reduce((sum, count) => sum + count, 0) - present) / WINDOW_S;
  }

  /** Time only moves forward here, whatever the clock does. */
  #advance(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    const from = Math.max(this.#second + 1, second - WINDOW_S);
    for (let passed = from; passed <= second; passed++) this.#counts[passed % this.#counts.length] = 0;
    this.#second = Math.max(this.#second, second);
  }
}
