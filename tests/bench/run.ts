/**
 * The benchmark: load, system and upstream as separate processes, systems in turn within each repetition.
 * Run: make bench, or node tests/bench/run.ts --help
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { temporaryDirectory } from '@nrdot/testbed';
import { GROWTH } from './growth/growth.ts';
import { headline } from './headline.ts';
import { machine } from './machine.ts';
import { heat, type Measurement, measure, measureIdle } from './measure.ts';
import {
  describe,
  type LoadStep,
  plan,
  type Step,
  SUITE_NAMES,
  secondsOf,
  timingOf,
  type Wish,
} from './plan.ts';
import { profile } from './profile.ts';
import { coresOfOthers, undisturbed } from './quiet.ts';
import { writePage } from './report.ts';
import { type Results, readResults, writeResults } from './results.ts';
import { SUITES } from './suites.ts';
import { systems } from './systems.ts';
import { Sink } from './upstream.ts';

const { values: flags } = parseArgs({
  options: {
    suite: { type: 'string' },
    repetitions: { type: 'string' },
    seconds: { type: 'string' },
    'warm-up': { type: 'string' },
    heat: { type: 'string' },
    attempts: { type: 'string', default: '3' },
    systems: { type: 'string', default: '' },
    cases: { type: 'string', default: '' },
    'node-flags': { type: 'string', default: '' },
    'no-peers': { type: 'boolean', default: false },
    resume: { type: 'boolean', default: false },
    fresh: { type: 'boolean', default: false },
    'dry-run': { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    headline: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    out: { type: 'string', default: 'tests/artifacts/bench' },
    help: { type: 'boolean', default: false },
  },
});
const USUAL = { suites: SUITE_NAMES.join(','), repetitions: '5', seconds: '10', warmUp: '3', heat: '3' };
const QUICK = { suites: 'budget,ceiling', repetitions: '2', seconds: '4', warmUp: '1', heat: '2' };
const HELP = `node tests/bench/run.ts
  --suite LIST      of ${SUITE_NAMES.join(', ')} (all)
  --repetitions N   systems in turn within each (5); once for cases beside the main ones
  --seconds S       measured at a time (10), after --warm-up S (3); cases with times of their own are cut to these if given
  --heat S          as fast as it goes, once after a system's start, so that its code is compiled (3)
  --attempts N      at a measurement that others on the machine disturb (3)
  --systems REGEX   only those whose name matches
  --cases REGEX     only those whose name matches
  --no-peers        NRDOT+ alone
  --node-flags=TEXT flags of Node to try, on NRDOT+ alone
  --dry-run         says what would be measured and how long that takes
  --resume          goes on where a run was cut short; without it, what is measured again is replaced
  --fresh           forgets all earlier results first
  --page            writes BENCHMARKS.md from all results there are
  --headline        in five minutes: the budget and both ceilings beside peers that answer from memory, printed with ratios; neither
                    the page nor results.json change
  --long            growth up to a million batches and ten million key-sets: minutes more
  --json            prints JSON: what would be measured (--dry-run), or the file with the results and what is in it
  --out DIR         where results.json goes (tests/artifacts/bench)
Suites run one after another add up in results.json. node tests/bench/report.ts makes the page from it.
`;

const say = (line: string) => void process.stderr.write(`${line}\n`);

async function main(): Promise<void> {
  if (flags.help) return void process.stdout.write(HELP);
  const wish = wished();
  const file = join(flags.out, wish.headline ? 'headline.json' : 'results.json');
  const results = readResults(flags.fresh || (wish.headline && !flags.resume) ? '' : file, machine());
  const note = (line: string) => {
    results.notes.push(line);
    say(line);
  };
  const nodeFlags = flags['node-flags'].split(' ').filter(Boolean);
  const all = await systems(peers(), note, nodeFlags);
  const nothing: Results = { machine: results.machine, notes: [], loads: [], growth: [] };
  if (!flags.resume) forget(results, plan(wish, all, nothing));
  const steps = plan(wish, all, results);
  say(describe(steps, wish));
  if (flags['dry-run']) {
    const seconds = steps.reduce((sum, step) => sum + secondsOf(step, wish), 0);
    return print({ seconds, steps: steps.map(nameOf), notes: results.notes });
  }
  const sink = await new Sink().start();
  const save = () => writeResults(file, results);
  let left = steps.reduce((sum, step) => sum + secondsOf(step, wish), 0);
  try {
    for (const step of steps) {
      await take(step, wish, sink, results, save).catch((error: Error) => {
        // One that fails must not cost the others: it is missing from the page, and said there.
        note(`${nameOf(step)} could not be measured: ${error.message.split('\n')[0]}`);
        say(error.message);
      });
      left -= secondsOf(step, wish);
      say(`about ${(left / 60).toFixed(1)} minutes left`);
    }
  } finally {
    await sink.process.end('SIGTERM');
    save();
  }
  print({ file, ...results });
  if (wish.headline) {
    if (!flags.json) process.stdout.write(`${headline(results.loads)}\n`);
    return;
  }
  if (flags.page) writePage(results);
  say(`results in ${file}; node tests/bench/report.ts ${file} makes the page`);
}

/** What programs read; people read standard error. */
function print(value: object): void {
  if (flags.json) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

function peers(): 'none' | 'headline' | 'all' {
  if (flags['no-peers']) return 'none';
  return flags.headline ? 'headline' : 'all';
}

function wished(): Wish {
  const { headline } = flags;
  const usual = headline ? QUICK : USUAL;
  const suites = (flags.suite ?? usual.suites).split(',');
  for (const name of suites) {
    if (!SUITE_NAMES.includes(name))
      throw new Error(`--suite ${name}: expected some of ${SUITE_NAMES.join(', ')}`);
  }
  return {
    headline,
    long: flags.long,
    suites,
    systems: new RegExp(flags.systems),
    cases: new RegExp(flags.cases),
    repetitions: number('repetitions', flags.repetitions ?? usual.repetitions),
    timing: {
      warmUpMs: number('warm-up', flags['warm-up'] ?? usual.warmUp) * 1000,
      measureMs: number('seconds', flags.seconds ?? usual.seconds) * 1000,
    },
    cut: headline || flags.seconds !== undefined || flags['warm-up'] !== undefined,
    attempts: Math.max(1, number('attempts', flags.attempts)),
    heatMs: number('heat', flags.heat ?? usual.heat) * 1000,
  };
}

function number(name: string, text: string): number {
  const value = Number(text);
  if (!(value >= 0)) throw new Error(`--${name} ${text}: expected a number`);
  return value;
}

function nameOf(step: Step): string {
  if (step.kind === 'load') return `${step.system.name} (${step.suite})`;
  return step.kind === 'growth' ? GROWTH[step.growth]!.title : 'the profile';
}

/** Takes out what is about to be measured again. */
function forget(results: Results, steps: readonly Step[]): void {
  for (const step of steps) {
    if (step.kind === 'profile') delete results.profile;
    else if (step.kind === 'growth')
      results.growth = results.growth.filter(({ growth }) => growth !== step.growth);
    else {
      const { suite, system, cases } = step;
      const again = (r: Results['loads'][number]) =>
        r.suite === suite && r.system === system.name && cases.some(({ name }) => name === r.case);
      results.loads = results.loads.filter((r) => !again(r));
    }
  }
}

async function take(step: Step, wish: Wish, sink: Sink, results: Results, save: () => void): Promise<void> {
  using dir = temporaryDirectory();
  if (step.kind === 'profile') {
    results.profile = { ...(await profile(dir.path, sink, wish.timing)), commit: results.machine.commit };
    save();
  } else if (step.kind === 'growth') {
    const { growth, points, repetition } = step;
    results.growth = results.growth.filter((one) => one.growth !== growth || one.repetition !== repetition);
    for await (const { x, values } of GROWTH[growth]!.run({ dir: dir.path, sink, say }, points)) {
      const others = await coresOfOthers();
      results.growth.push({ growth, repetition, x, values, commit: results.machine.commit, others });
      save();
    }
  } else await takeLoads(step, wish, sink, dir.path, results, save);
}

async function takeLoads(
  { suite, system, cases, repetition }: LoadStep,
  wish: Wish,
  sink: Sink,
  dir: string,
  results: Results,
  save: () => void,
): Promise<void> {
  const running = await system.start(dir, sink.url);
  try {
    if (wish.heatMs > 0) await heat(running, sink, cases[0]!.workload, wish.heatMs);
    for (const one of cases) {
      const timing = timingOf(one, wish);
      const idle = SUITES[suite]!.schedule === 'idle';
      const take = () => (idle ? measureIdle(running, timing) : measure(running, sink, one, timing));
      const { value: measurement, others } = await undisturbed(take, wish.attempts, say);
      const { name, durability, version } = system;
      const { commit } = results.machine;
      results.loads.push({
        suite,
        system: name,
        durability,
        ...(version ? { version } : {}),
        case: one.name,
        repetition,
        commit,
        others,
        measurement,
      });
      save();
      say(
        `${repetition}/${wish.repetitions}  ${name}  ${one.name}  ${line(measurement)}  others ${others.toFixed(2)}`,
      );
    }
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${running.output()}`, { cause: error });
  } finally {
    await running.stop();
  }
}

function line(m: Measurement): string {
  const mib = (bytes = 0) => (bytes / 1048576).toFixed(0);
  const processes = Object.entries(m.cpu).map(
    ([name, ms]) => `${name} ${ms.toFixed(1)} ms/s ${mib(m.memory[name]?.rss)} MiB`,
  );
  const { latency } = m;
  return [
    `${m.cpuMsPerSecond.toFixed(1)} ms/s`,
    `${m.cpuUsPerItem.toFixed(2)} µs/item`,
    `${m.itemsPerSecond.toFixed(0)} items/s`,
    `RSS ${mib(m.memory.total?.rss)} (${mib(m.memory.total?.rssPeak)}) PSS ${mib(m.memory.total?.pss)} MiB`,
    ...(latency
      ? [
          `p50 ${latency.p50Ms.toFixed(1)} p99 ${latency.p99Ms.toFixed(1)} p99.9 ${latency.p999Ms.toFixed(1)} ms`,
        ]
      : []),
    ...(m.lostItems + m.twiceItems > 0 ? [`LOST ${m.lostItems}, twice ${m.twiceItems}`] : []),
    `[${processes.join('; ')}]`,
  ].join('  ');
}

await main().catch((error: Error) => {
  if (!flags.json) throw error;
  print({ error: { code: 'failed', message: error.message } });
  process.exitCode = 1;
});
