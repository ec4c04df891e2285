/**
 * Turns results.json into BENCHMARKS.md and its plots.
 * Run: node tests/bench/report.ts tests/artifacts/bench/results.json
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bar, barChart } from './chart/bars.ts';
import { lineChart } from './chart/lines.ts';
import { GROWTH } from './growth/growth.ts';
import type { Measurement } from './measure.ts';
import type { ProfileResult } from './profile.ts';
import { median } from './quantile.ts';
import { MOST_BY_OTHERS } from './quiet.ts';
import type { GrowthPoint, Result, Results } from './results.ts';
import { HEADLINE, type LoadCase, SERVICES, SPANS, SUITES, type Suite } from './suites.ts';
import { requestsPerReceiverSecond, targets } from './targets.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PLOTS = 'docs/benchmarks';

const ms = (value: number) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
const mib = (bytes: number) => (bytes / 1048576).toFixed(0);
const whole = (value: number) => (value >= 10_000 ? `${(value / 1000).toFixed(0)}k` : value.toFixed(0));

/** Median and range over the repetitions. */
function spread(rows: readonly Result[], of: (m: Measurement) => number) {
  const values = rows.map(({ measurement }) => of(measurement));
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

function cell(
  rows: readonly Result[],
  of: (m: Measurement) => number | undefined,
  show: (n: number) => string,
): string {
  if (rows.some(({ measurement }) => of(measurement) === undefined)) return '–';
  const { median, min, max } = spread(rows, (m) => of(m)!);
  return show(min) === show(max) ? show(median) : `${show(median)} (${show(min)}–${show(max)})`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const right = head.map((_, i) => (i === 0 ? '---' : '---:'));
  return [head, right, ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}

/** Results of one system in one case belong together. */
function grouped(results: readonly Result[]): Result[][] {
  return [...Map.groupBy(results, (result) => result.system).values()];
}

interface Column {
  head: string;
  of(m: Measurement): number | undefined;
  show(n: number): string;
}

function columns({ schedule }: Suite, one: LoadCase, withServices: boolean): Column[] {
  const each: Column = { head: 'CPU ms per second', of: (m) => m.cpuMsPerSecond, show: ms };
  if (schedule === 'idle') return [each];
  const cpu: Column = { head: 'CPU µs per item', of: (m) => m.cpuUsPerItem, show: ms };
  if (schedule === 'open') {
    return [
      each,
      cpu,
      { head: 'p50 ms', of: (m) => m.latency?.p50Ms, show: ms },
      { head: 'p99 ms', of: (m) => m.latency?.p99Ms, show: ms },
      { head: 'p99.9 ms', of: (m) => m.latency?.p999Ms, show: ms },
    ];
  }
  const { batchSize } = one.workload;
  return [
    { head: 'items per CPU-second', of: (m) => 1e6 / m.cpuUsPerItem, show: whole },
    cpu,
    { head: 'items per second', of: (m) => m.itemsPerSecond, show: whole },
    ...(batchSize > 10
      ? []
      : [
          {
            head: 'requests per CPU-second',
            of: (m: Measurement) => 1e6 / m.cpuUsPerItem / batchSize,
            show: whole,
          },
        ]),
    ...(withServices
      ? [
          {
            head: 'of the receiver’s process',
            of: (m: Measurement) => requestsPerReceiverSecond(m, batchSize),
            show: whole,
          },
        ]
      : []),
  ];
}

function caseTable(suite: Suite, one: LoadCase, results: readonly Result[]): string {
  const idle = suite.schedule === 'idle';
  const cost = (m: Measurement) => (idle ? m.cpuMsPerSecond : m.cpuUsPerItem);
  const bySystem = grouped(results).sort((a, b) => spread(a, cost).median - spread(b, cost).median);
  const shown = columns(
    suite,
    one,
    results.some(({ system }) => system === SERVICES && suite.schedule === 'closed'),
  );
  const rows = bySystem.map((rows) => [
    rows[0]!.system.startsWith('NRDOT+') ? `**${rows[0]!.system}**` : rows[0]!.system,
    rows[0]!.durability,
    ...shown.map(({ of, show }) => cell(rows, of, show)),
    `${mib(spread(rows, (m) => m.memory.total!.rss).median)} (${mib(spread(rows, (m) => m.memory.total!.rssPeak).max)})`,
    mib(spread(rows, (m) => m.memory.total!.pss).median),
    ...(idle ? [] : [String(rows.reduce((sum, { measurement }) => sum + measurement.lostItems, 0))]),
    Math.max(...rows.map(({ others }) => others)).toFixed(2),
  ]);
  const memory = ['RSS MiB (peak)', 'PSS MiB'];
  const heads = shown.map(({ head }) => head);
  const head = ['system', '200 means', ...heads, ...memory, ...(idle ? [] : ['lost']), 'others, cores'];
  return `${repeated(bySystem)}\n\n${table(head, rows)}`;
}

/** How often each was measured. */
function repeated(bySystem: readonly (readonly Result[])[]): string {
  const counts = bySystem.map((rows) => rows.length);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const times = least === most ? String(most) : `${least} to ${most}`;
  return `Repetitions: ${times}.`;
}

function plot(
  name: string,
  title: string,
  unit: string,
  results: readonly Result[],
  of: (m: Measurement) => number | undefined,
  { limit, best = 'least' }: { limit?: number; best?: 'least' | 'most' } = {},
): string {
  const bars: Bar[] = grouped(results.filter(({ measurement }) => of(measurement) !== undefined))
    .map((rows) => ({
      label: rows[0]!.system,
      remark: rows[0]!.durability,
      ours: rows[0]!.system.startsWith('NRDOT+'),
      ...spread(rows, (m) => of(m)!),
    }))
    .sort((a, b) => (best === 'least' ? a.median - b.median : b.median - a.median));
  return written(name, title, barChart(title, unit, bars, limit));
}

function written(name: string, title: string, chart: string): string {
  writeFileSync(join(ROOT, PLOTS, `${name}.svg`), chart);
  return `![${title}](${PLOTS}/${name}.svg)`;
}

function suiteSection(name: string, suite: Suite, all: readonly Result[]): string[] {
  const results = all.filter((r) => r.suite === name);
  if (results.length === 0) return [];
  const of = (what: string) => results.filter((r) => r.case === what);
  const plots: string[] = [];
  if (of(HEADLINE).length > 0) {
    const rows = of(HEADLINE);
    plots.push(
      plot('cpu', 'CPU at 10,000 spans/s', 'ms/s', rows, (m) => m.cpuMsPerSecond, { limit: 40 }),
      plot('p99', 'p99 from due to upstream at 10,000 spans/s', 'ms', rows, (m) => m.latency?.p99Ms, {
        limit: 50,
      }),
      plot('rss', 'Resident memory at 10,000 spans/s', 'MiB', rows, (m) => m.memory.total!.rss / 1048576, {
        limit: 150,
      }),
    );
  }
  if (of(SPANS).length > 0) {
    plots.push(
      plot('ceiling', 'Spans per CPU-second, closed loop', '', of(SPANS), (m) => 1e6 / m.cpuUsPerItem, {
        best: 'most',
      }),
    );
  }
  const cases = suite.cases.filter((one) => of(one.name).length > 0);
  return [
    `## ${suite.title}`,
    suite.about,
    ...plots,
    ...cases.flatMap((one) => [`### ${one.name}`, caseTable(suite, one, of(one.name))]),
  ];
}

function growthSection(points: readonly GrowthPoint[]): string[] {
  if (points.length === 0) return [];
  const parts = Object.entries(GROWTH).flatMap(([name, growth]) => {
    const mine = points.filter((point) => point.growth === name);
    if (mine.length === 0) return [];
    const byX = [...Map.groupBy(mine, ({ x }) => x)].sort(([a], [b]) => a - b);
    const panels = growth.charts.map(({ title, unit, lines }) => ({
      title,
      unit,
      lines: Object.entries(lines).map(([key, label]) => ({
        label,
        points: byX
          .map(([x, at]) => ({ x, values: at.flatMap(({ values }) => values[key] ?? []) }))
          .filter(({ values }) => values.length > 0),
      })),
    }));
    const keys = growth.charts.flatMap(({ title, unit, lines }) =>
      Object.entries(lines).map(([key, label]) => ({
        key,
        head: `${title}${Object.keys(lines).length > 1 ? `: ${label}` : ''}, ${unit}`,
      })),
    );
    const rows = byX.map(([x, at]) => [
      growth.show(x),
      ...keys.map(({ key }) => {
        const values = at.flatMap(({ values }) => values[key] ?? []);
        if (values.length === 0) return '–';
        const [least, most] = [Math.min(...values), Math.max(...values)];
        return least === most ? ms(least) : `${ms(median(values))} (${ms(least)}–${ms(most)})`;
      }),
      Math.max(...at.map(({ others }) => others)).toFixed(2),
    ]);
    const axis = { label: growth.x, scale: growth.scale, show: growth.show };
    const [last] = byX.at(-1)!;
    const most = growth.long?.points.at(-1) ?? last;
    return [
      `### ${growth.title}`,
      growth.about,
      ...(last < most
        ? [`Measured up to ${growth.show(last)}; \`make bench ARGS=--long\` goes on to ${growth.show(most)}.`]
        : []),
      written(`growth-${name.toLowerCase()}`, growth.title, lineChart(growth.title, axis, panels)),
      table([growth.x, ...keys.map(({ head }) => head), 'others, cores'], rows),
    ];
  });
  return [
    '## Growth',
    'What more of something costs. Every scale begins at 0, so that what is flat looks flat.',
    ...parts,
  ];
}

/** CPU and memory of each process of our forms, in the case that all of them ran. */
function processTable(results: readonly Result[]): string[] {
  const headline = results.filter((r) => r.case === HEADLINE && r.system.startsWith('NRDOT+'));
  if (headline.length === 0) return [];
  const rows = grouped(headline).flatMap((rows) =>
    Object.keys(rows[0]!.measurement.cpu).map((name) => [
      rows[0]!.system,
      name,
      cell(rows, (m) => m.cpu[name] ?? 0, ms),
      `${mib(spread(rows, (m) => m.memory[name]?.rss ?? 0).median)} (${mib(spread(rows, (m) => m.memory[name]?.rssPeak ?? 0).max)})`,
      mib(spread(rows, (m) => m.memory[name]?.pss ?? 0).median),
    ]),
  );
  return [
    '### By process',
    `At ${HEADLINE}.`,
    table(['form', 'process', 'CPU ms per second', 'RSS MiB (peak)', 'PSS MiB'], rows),
  ];
}

function profileSection(profile: ProfileResult | undefined): string[] {
  if (!profile) return [];
  const { seconds, msPerSecond, packages, functions, commands, scriptsPerBatch } = profile;
  const share = (part: number) => `${((part / msPerSecond) * 100).toFixed(1)} %`;
  const shown = packages.filter((one) => one.msPerSecond / msPerSecond >= 0.005);
  return [
    '### By package and function',
    `V8’s sampling profiler on the one-process form, run from source, ${seconds.toFixed(0)} s at ${HEADLINE}; self time. Its shares of what the operating system booked on the process. The profiler costs something itself, so shares say more than ms. Redis is not in it.`,
    table(
      ['package', 'CPU ms per second', 'share'],
      shown.map(({ name, msPerSecond }) => [name, ms(msPerSecond), share(msPerSecond)]),
    ),
    table(
      ['function', 'where', 'CPU ms per second', 'share'],
      functions.map(({ name, where, msPerSecond }) => [
        `\`${name}\``,
        where ? `\`${where}\`` : '',
        ms(msPerSecond),
        share(msPerSecond),
      ]),
    ),
    '### By Redis command',
    `Per batch of 500 spans, from \`INFO commandstats\`. ${scriptsPerBatch.toFixed(1)} scripts ran per batch; what they call is listed too, and is part of the time of \`evalsha\`.`,
    table(
      ['command', 'per batch', 'µs per batch'],
      commands
        .filter((command) => command.perBatch >= 0.05)
        .map(({ name, perBatch, usPerBatch }) => [`\`${name}\``, perBatch.toFixed(2), usPerBatch.toFixed(1)]),
    ),
  ];
}

/** The page, and the plots it shows. */
function page({ machine, notes, loads, growth, profile }: Results): string {
  rmSync(join(ROOT, PLOTS), { recursive: true, force: true });
  mkdirSync(join(ROOT, PLOTS), { recursive: true });
  const measured = [...loads, ...growth, ...(profile ? [profile] : [])];
  const commits = [...new Set(measured.map(({ commit }) => commit))];
  const others = [...loads, ...growth].map((one) => one.others);
  const disturbed = others.filter((cores) => cores > MOST_BY_OTHERS).length;
  const versions = [...new Set(loads.flatMap(({ version }) => version ?? []))].sort();
  const sections = Object.entries(SUITES).flatMap(([name, suite]) => suiteSection(name, suite, loads));
  const where = [...processTable(loads), ...profileSection(profile)];
  return `${[
    '# Benchmarks',
    '<!-- Written by tests/bench/report.ts from the results of `make bench`; not by hand. -->',
    `On ${machine.cores} × ${machine.cpu}, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ${machine.system}, kernel ${machine.kernel}; ` +
      `Node ${machine.node}, Redis ${machine.redis}, Go ${machine.go}. ${commits.length > 1 ? `Commits ${commits.join(', ')}` : `Commit ${commits[0]}`}, ${machine.at.slice(0, 10)}. ` +
      `Load average before the run: ${machine.loadAverage.toFixed(1)}.`,
    ...(others.length === 0
      ? []
      : [
          `Others than the benchmark kept ${median(others).toFixed(2)} cores busy beside a measurement (median; at most ${Math.max(...others).toFixed(2)}).` +
            (disturbed === 0
              ? ''
              : ` **The machine had other work in ${disturbed} of ${others.length} measurements** (more than ${MOST_BY_OTHERS} cores): latency is an upper bound there, and CPU is raised by caches shared with others.`),
        ]),
    ...(versions.length > 0 ? [`Peers: ${versions.join(', ')}.`] : []),
    ...notes.map((note) => `Note: ${note}.`),
    '## Targets',
    targets(loads),
    'Rows that are not met have their account [below](#where-the-gaps-are).',
    ...sections,
    ...growthSection(growth),
    ...(where.length > 0 ? ['## Where it goes', ...where] : []),
    readFileSync(join(ROOT, 'tests/bench/account.md'), 'utf8').trim(),
    readFileSync(join(ROOT, 'tests/bench/method.md'), 'utf8').trim(),
  ].join('\n\n')}\n`;
}

/** Writes BENCHMARKS.md and the plots it shows. */
export function writePage(results: Results): void {
  writeFileSync(join(ROOT, 'BENCHMARKS.md'), page(results));
}

if (import.meta.main) {
  const file = process.argv[2] ?? 'tests/artifacts/bench/results.json';
  writePage(JSON.parse(readFileSync(file, 'utf8')) as Results);
  process.stdout.write('BENCHMARKS.md\n');
}
