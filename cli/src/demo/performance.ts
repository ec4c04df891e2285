import { join } from 'node:path';
import { bar, type ProgressLine } from '../progress.ts';
import { Stage } from './stage.ts';

/** What an act is given: a stage on demand, and somebody to tell how it goes. */
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
    /** For the files of stages. */
    dir: string;
    /** Above those of the acts. */
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

  /** @param share 0 to 1, of the whole act */
  progress(share: number, text: string): void {
    this.#line.show(`  ${bar(share)}  ${text}`);
  }
}
