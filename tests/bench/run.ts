/**
 * The benchmark: load, system and upstream as separate processes, systems in turn within each repetition.
 * Run: make bench, or node tests/bench/run.ts --help
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { temporaryDirectory } from '@nrdot/testbed';
import { machine } from './machine.ts';
import { type Case, type Measurement, measure, Sink, type Timing } from './measure.ts';
import { writePage } from './report.ts';
import { SUITES, type Suite } from './suites.ts';
import { type System, systems } from './systems.ts';

export interface Result {
  suite: string;
  system: string;
  durability: System['durability'];
  case: string;
  repetition: number;
  measurement: Measurement;
}

export interface Results {
  machine: ReturnType<typeof machine>;
  repetitions: number;
  timing: Timing;
  notes: string[];
  results: Result[];
}

const { values: flags } = parseArgs({
  options: {
    repetitions: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '10' },
    'warm-up': { type: 'string', default: '4' },
    suites: { type: 'string', default: Object.keys(SUITES).join(',') },
    systems: { type: 'string', default: '' },
    cases: { type: 'string', default: '' },
    'node-flags': { type: 'string', default: '' },
    'no-peers': { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    out: { type: 'string', default: 'tests/artifacts/bench' },
    help: { type: 'boolean', default: false },
  },
});
const HELP = `node tests/bench/run.ts
  --repetitions N   of everything, systems in turn within each (5)
  --seconds S       measured at a time (10), after --warm-up S (4)
  --suites LIST     of ${Object.keys(SUITES).join(', ')}
  --systems REGEX   only those whose name matches
  --cases REGEX     only those whose name matches
  --no-peers        NRDOT+ alone
  --node-flags=TEXT flags of Node to try, on NRDOT+ alone
  --page            writes BENCHMARKS.md from the results
  --out DIR         where results.json goes (tests/artifacts/bench)
`;

const say = (line: string) => void process.stderr.write(`${line}\n`);

async function main(): Promise<void> {
  if (flags.help) return void process.stdout.write(HELP);
  const timing = { warmUpMs: Number(flags['warm-up']) * 1000, measureMs: Number(flags.seconds) * 1000 };
  const repetitions = Number(flags.repetitions);
  const notes: string[] = [];
  const note = (line: string) => {
    notes.push(line);
    say(line);
  };
  const all = await systems(!flags['no-peers'], note, flags['node-flags'].split(' ').filter(Boolean));
  const wanted = all.filter(({ name }) => new RegExp(flags.systems).test(name));
  const suites = flags.suites.split(',').map((name): [string, Suite] => {
    const suite = SUITES[name];
    if (!suite) throw new Error(`--suites ${name}: expected some of ${Object.keys(SUITES).join(', ')}`);
    return [name, suite];
  });
  const results: Result[] = [];
  const where = machine();
  const file = join(flags.out, 'results.json');
  /** Written after each repetition, so that a run that is cut short leaves what it had. */
  const kept = (repetition: number): Results => {
    const out = { machine: where, repetitions: repetition, timing, notes, results };
    mkdirSync(flags.out, { recursive: true });
    writeFileSync(file, `${JSON.stringify(out)}\n`);
    return out;
  };
  const sink = await new Sink().start();
  try {
    for (let repetition = 1; repetition <= repetitions; repetition++) {
      for (const system of turned(wanted, repetition)) {
        for (const [suite, { cases }] of suites) {
          const mine = cases(system).filter(({ name }) => new RegExp(flags.cases).test(name));
          if (mine.length === 0) continue;
          for (const [name, measurement] of await measureSystem(system, sink, mine, timing)) {
            results.push({
              suite,
              system: system.name,
              durability: system.durability,
              case: name,
              repetition,
              measurement,
            });
            say(`${repetition}/${repetitions}  ${system.name}  ${name}  ${line(measurement)}`);
          }
        }
      }
      kept(repetition);
    }
  } finally {
    await sink.process.end('SIGTERM');
  }
  if (flags.page) writePage(kept(repetitions));
  say(`results in ${file}; node tests/bench/report.ts ${file} makes the page`);
}

/** Another one goes first in each repetition, so that no place in the order favours anybody. */
function turned<T>(list: readonly T[], by: number): T[] {
  const at = by % Math.max(1, list.length);
  return [...list.slice(at), ...list.slice(0, at)];
}

async function measureSystem(
  system: System,
  sink: Sink,
  cases: Case[],
  timing: Timing,
): Promise<[string, Measurement][]> {
  using dir = temporaryDirectory();
  const running = await system.start(dir.path, sink.url);
  try {
    const measured: [string, Measurement][] = [];
    for (const one of cases) measured.push([one.name, await measure(running, sink, one, timing)]);
    return measured;
  } catch (error) {
    throw new Error(`${system.name}: ${(error as Error).message}\n${running.output()}`, { cause: error });
  } finally {
    await running.stop();
  }
}

function line(m: Measurement): string {
  const mib = (bytes = 0) => (bytes / 1048576).toFixed(0);
  const processes = Object.entries(m.cpu).map(
    ([name, ms]) => `${name} ${ms.toFixed(1)} ms/s ${mib(m.memory[name]?.rss)} MiB`,
  );
  return [
    `${m.cpuMsPerSecond.toFixed(1)} ms/s`,
    `${m.cpuUsPerItem.toFixed(2)} µs/item`,
    `${m.itemsPerSecond.toFixed(0)} items/s`,
    `RSS ${mib(m.memory.total?.rss)} (${mib(m.memory.total?.rssPeak)}) PSS ${mib(m.memory.total?.pss)} MiB`,
    `p50 ${m.latency.p50Ms.toFixed(1)} p99 ${m.latency.p99Ms.toFixed(1)} p99.9 ${m.latency.p999Ms.toFixed(1)} ms`,
    ...(m.lostItems + m.twiceItems > 0 ? [`LOST ${m.lostItems}, twice ${m.twiceItems}`] : []),
    `[${processes.join('; ')}]`,
    `load ${m.loadAverage.toFixed(1)}`,
  ].join('  ');
}

await main();
