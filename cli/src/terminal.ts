/** Whether to use colours: on a terminal, unless disabled (no-color.org). */
export function usesColour(out: NodeJS.WriteStream): boolean {
  return Boolean(out.isTTY) && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
}

/** A function that colours a text (ANSI), or leaves it as it is. */
export function painter(colour: boolean): (code: number, text: string) => string {
  return (code, text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
}

const ALTERNATE = '\u001b[?1049h';
const NORMAL = '\u001b[?1049l';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/** A terminal's alternate screen; its previous content is restored at the end. */
export class Screen implements Disposable {
  readonly #out: NodeJS.WriteStream;
  readonly #in: NodeJS.ReadStream;
  readonly #pressed: (key: Buffer) => void;
  #lines: readonly string[] = [];
  readonly #redraw = () => this.draw(this.#lines);

  /** @param pressed called with typed input: raw, without Enter */
  constructor(out: NodeJS.WriteStream, input: NodeJS.ReadStream, pressed: (key: string) => void) {
    this.#out = out;
    this.#in = input;
    this.#pressed = (key) => pressed(key.toString('latin1'));
    if (input.isTTY) {
      input.setRawMode(true);
      input.on('data', this.#pressed);
      input.resume();
    }
    out.on('resize', this.#redraw);
    out.write(ALTERNATE + HIDE_CURSOR);
  }

  /** Cuts off what does not fit. */
  draw(lines: readonly string[]): void {
    this.#lines = lines;
    // A terminal of unknown size reports 0.
    const columns = this.#out.columns || 80;
    const rows = this.#out.rows || 24;
    const shown = lines.slice(0, rows - 1).map((line) => clipped(line, columns) + CLEAR_LINE);
    this.#out.write(`${HOME}${shown.join('\r\n')}\r\n${CLEAR_BELOW}`);
  }

  [Symbol.dispose](): void {
    this.#out.off('resize', this.#redraw);
    this.#out.write(SHOW_CURSOR + NORMAL);
    if (!this.#in.isTTY) return;
    this.#in.off('data', this.#pressed);
    this.#in.setRawMode(false);
    this.#in.pause();
  }
}

/** Cuts a line to so many characters; escape sequences do not count. */
export function clipped(line: string, columns: number): string {
  let room = columns;
  let kept = '';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal's escape sequences begin with one
  for (const [part] of line.matchAll(/\u001b\[[0-9;]*m|[^\u001b]/gu)) {
    if (part.startsWith('\u001b')) kept += part;
    else if (room-- > 0) kept += part;
  }
  return kept;
}
