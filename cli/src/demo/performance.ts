import { join } from 'node:path';
import { bar, type ProgressLine } from '../progress.ts';
import { Stage } from './stage.ts';

type Settings = Record<string, unknown>;

/** What an act gets: stages, and progress output. */
export type Performance = ReturnType<typeof startPerformance>;

/**
 * @param dir directory for the stages' files
 * @param own settings that override those of the acts
 * @param signal ends the act early
 */
export function startPerformance(
  acts: number,
  dir: string,
  own: Settings,
  line: ProgressLine,
  signal: AbortSignal,
) {
  let act = 0;
  return {
    signal,
    begin(title: string, story: string): void {
      act++;
      line.say(`\nAct ${act} of ${acts}: ${title}\n  ${story}`);
    },
    open(settings: Settings): Promise<Stage> {
      return Stage.open(join(dir, `act-${act}`), [settings, own]);
    },
    /** @param share of the whole act, 0 to 1 */
    progress(share: number, text: string): void {
      line.show(`  ${bar(share)}  ${text}`);
    },
  };
}
