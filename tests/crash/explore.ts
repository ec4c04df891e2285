/** Many schedules from one seed; a failing one is made short and told. */
import { Choices, shrink } from './choices.ts';
import { type Load, type Result, type RunOptions, runSchedule } from './schedule.ts';
import { breath } from './virtual-time.ts';

export interface Explored {
  schedules: number;
  steps: number;
  faults: number;
  /** Of the first that failed: how to have it again, and what happened in it. */
  failure: { seed: number; broken: string; choices: number[]; story: string[] } | undefined;
}

const SHRINKING_RUNS = 400;

/** Runs schedules until one fails. Schedule n has the seed `seed + n`; with an odd one batches may go past the scheduler. */
export async function explore(
  schedules: number,
  seed: number,
  {
    shrinkingRuns = SHRINKING_RUNS,
    load = 'spans' as Load,
    /** For all schedules, instead of every other. */
    pastScheduler = undefined as boolean | undefined,
    onlyReceiversDie = false,
  } = {},
): Promise<Explored> {
  const done: Explored = { schedules: 0, steps: 0, faults: 0, failure: undefined };
  while (done.schedules < schedules) {
    await breath();
    const options = {
      load,
      onlyReceiversDie,
      pastScheduler: pastScheduler ?? (seed + done.schedules) % 2 === 1,
    };
    const result = await runSchedule(Choices.fromSeed(seed + done.schedules), options);
    done.schedules++;
    done.steps += result.steps;
    done.faults += result.faults;
    if (result.broken === undefined) continue;
    done.failure = { seed: seed + done.schedules - 1, ...(await told(result, shrinkingRuns, options)) };
    break;
  }
  return done;
}

/** What a failure has to say for itself. */
export function storyOf({ seed, broken, choices, story }: NonNullable<Explored['failure']>): string {
  return [
    `schedule ${seed}: ${broken}`,
    ...story.map((line) => `  ${line}`),
    `choices ${JSON.stringify(choices)}`,
  ].join('\n');
}

async function told({ broken, choices }: Result, shrinkingRuns: number, options: RunOptions) {
  const kind = kindOf(broken);
  const short = await shrink(
    choices,
    async (list) => kindOf((await runSchedule(Choices.replayed(list), options)).broken) === kind,
    shrinkingRuns,
  );
  const again = await runSchedule(Choices.replayed(short), { ...options, telling: true });
  return again.broken === undefined
    ? {
        broken: `${broken} (it does not fail again: something outside of the run takes part in it)`,
        choices,
        story: [],
      }
    : { broken: again.broken, choices: short, story: again.story };
}

/** Shrinking keeps to the fault it began with. */
function kindOf(broken: string | undefined): string | undefined {
  return broken?.replace(/\d+/g, '#').slice(0, 24);
}
