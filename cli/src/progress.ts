const WIDTH = 24;
const COLUMNS = 80;
const PLAIN_EVERY_MS = 2_000;

/** Progress of a long operation: one changing line on a terminal, a plain line every two seconds elsewhere. */
export class ProgressLine {
  readonly #out: NodeJS.WriteStream;
  #shownAt = Number.NEGATIVE_INFINITY;

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out;
  }

  show(line: string): void {
    if (this.#out.isTTY) {
      // A terminal of unknown width reports 0.
      this.#out.write(`\r\u001b[K${line.slice(0, (this.#out.columns || COLUMNS) - 1)}`);
      return;
    }
    const now = performance.now();
    if (now - this.#shownAt < PLAIN_EVERY_MS) return;
    this.#shownAt = now;
    this.#out.write(`${line}\n`);
  }

  /** Clears it. */
  done(): void {
    if (this.#out.isTTY) this.#out.write('\r\u001b[K');
    this.#shownAt = Number.NEGATIVE_INFINITY;
  }

  /** Prints a line that stays. */
  say(line: string): void {
    this.done();
    this.#out.write(`${line}\n`);
  }
}

/** @param share 0 to 1 */
export function bar(share: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * WIDTH);
  return `[${'='.repeat(full)}${' '.repeat(WIDTH - full)}]`;
}
