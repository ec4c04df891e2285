import { join } from 'node:path';
import { bar, type ProgressLine } from '../progress.ts';
import { Stage } from './stage.ts';

/** What an act gets: stages, and progress output. */
export class Performance {
  /** Ends the act early. */
  readonly signal: AbortSignal;
  readonly #acts: number;
  readonly #dir: string;
  readonly #settings: Record<string, unknown>;
  readonly #line: ProgressLine;
  #act = 0;

  constructor(options: {
    acts: number;
    /** Directory for the stages' files. */
    dir: string;
    /** Override those of the acts. */
    settings: Record<string, unknown>;
    line: ProgressLine;
    signal: AbortSignal;
  }) {
    this.#acts = options.acts;
    this.#dir = options.dir;
    this.#settings = options.settings;
    this.#line = options.line;
    this.signal = options.signal;
  }

  begin(title: string, story: string): void {
    this.#act++;
    this.#line.say(`\nAct ${this.#act} of ${this.#acts}: ${title}\n  ${story}`);
  }

  open(settings: Record<string, unknown>): Promise<Stage> {
    return Stage.open(join(this.#dir, `act-${this.#act}`), [settings, this.#settings]);
  }

  /** @param share of the whole act, 0 to 1 */
  progress(share: number, text: string): void {
    this.#line.show(`  ${bar(share)}  ${text}`);
  }
}
