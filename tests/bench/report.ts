/**
 * Turns results.json into BENCHMARKS.md and its plots.
 * Run: node tests/bench/report.ts tests/artifacts/bench/results.json
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bar, barChart } from './chart.ts';
import { type Measurement, quantile } from './measure.ts';
import type { Result, Results } from './run.ts';
import { SUITES } from './suites.ts';
import { targets } from './targets.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PLOTS = 'docs/benchmarks';

const ms = (value: number) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
const mib = (bytes: number) => (bytes / 1048576).toFixed(0);

/** Median and range over the repetitions. */
export function spread(rows: readonly Result[], of: (m: Measurement) => number) {
  const values = rows.map(({ measurement }) => of(measurement));
  return { median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values) };
}

function cell(rows: readonly Result[], of: (m: Measurement) => number, show: (n: number) => string): string {
  const { median, min, max } = spread(rows, of);
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

function caseTable(suite: string, results: readonly Result[]): string {
  const open = suite !== 'ceiling';
  const bySystem = grouped(results).sort(
    (a, b) => spread(a, (m) => m.cpuUsPerItem).median - spread(b, (m) => m.cpuUsPerItem).median,
  );
  const head = [
    'system',
    '200 means',
    ...(open ? ['CPU ms per second'] : ['items per CPU-second', 'items per second']),
    'CPU µs per item',
    'RSS MiB (peak)',
    'PSS MiB',
    ...(open ? ['p50 ms', 'p99 ms', 'p99.9 ms'] : []),
    'lost',
  ];
  const rows = bySystem.map((rows) => [
    rows[0]!.system,
    rows[0]!.durability,
    ...(open
      ? [cell(rows, (m) => m.cpuMsPerSecond, ms)]
      : [cell(rows, (m) => 1e6 / m.cpuUsPerItem, whole), cell(rows, (m) => m.itemsPerSecond, whole)]),
    cell(rows, (m) => m.cpuUsPerItem, ms),
    `${mib(spread(rows, (m) => m.memory.total!.rss).median)} (${mib(spread(rows, (m) => m.memory.total!.rssPeak).max)})`,
    mib(spread(rows, (m) => m.memory.total!.pss).median),
    ...(open
      ? [
          cell(rows, (m) => m.latency.p50Ms, ms),
          cell(rows, (m) => m.latency.p99Ms, ms),
          cell(rows, (m) => m.latency.p999Ms, ms),
        ]
      : []),
    String(rows.reduce((sum, { measurement }) => sum + measurement.lostItems, 0)),
  ]);
  return table(head, rows);
}

function whole(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(0)}k` : value.toFixed(0);
}

/** CPU and memory of each process of our forms, in the case that all of them ran. */
function processTable(results: readonly Result[]): string {
  const rows = grouped(results.filter(({ system }) => system.startsWith('NRDOT+'))).flatMap((rows) =>
    Object.keys(rows[0]!.measurement.cpu).map((name) => [
      rows[0]!.system,
      name,
      cell(rows, (m) => m.cpu[name] ?? 0, ms),
      `${mib(spread(rows, (m) => m.memory[name]?.rss ?? 0).median)} (${mib(spread(rows, (m) => m.memory[name]?.rssPeak ?? 0).max)})`,
      mib(spread(rows, (m) => m.memory[name]?.pss ?? 0).median),
    ]),
  );
  return table(['form', 'process', 'CPU ms per second', 'RSS MiB (peak)', 'PSS MiB'], rows);
}

function plot(
  name: string,
  title: string,
  unit: string,
  results: readonly Result[],
  of: (m: Measurement) => number,
): string {
  const bars: Bar[] = grouped(results)
    .map((rows) => ({
      label: rows[0]!.system,
      ours: rows[0]!.system.startsWith('NRDOT+'),
      ...spread(rows, of),
    }))
    .sort((a, b) => a.median - b.median);
  mkdirSync(join(ROOT, PLOTS), { recursive: true });
  writeFileSync(join(ROOT, PLOTS, `${name}.svg`), barChart(title, unit, bars));
  return `![${title}](${PLOTS}/${name}.svg)`;
}

function page({ machine, repetitions, timing, notes, results }: Results): string {
  const load = quantile(
    results.map(({ measurement }) => measurement.loadAverage),
    0.5,
  );
  const headline = results.filter((r) => r.suite === 'budget' && r.case.startsWith('20 requests'));
  const sections = Object.entries(SUITES).flatMap(([suite, { title, about }]) => {
    const mine = results.filter((r) => r.suite === suite);
    if (mine.length === 0) return [];
    const cases = [...Map.groupBy(mine, (r) => r.case)];
    const plots =
      suite === 'budget' && headline.length > 0
        ? [
            plot('cpu', `CPU at 10,000 spans/s, ms per second`, 'ms/s', headline, (m) => m.cpuMsPerSecond),
            plot('p99', `p99 from due to upstream at 10,000 spans/s`, 'ms', headline, (m) => m.latency.p99Ms),
            plot(
              'rss',
              `Resident memory at 10,000 spans/s`,
              'MiB',
              headline,
              (m) => m.memory.total!.rss / 1048576,
            ),
          ]
        : [];
    return [
      `## ${title}`,
      about,
      ...plots,
      ...cases.flatMap(([name, rows]) => [`### ${name}`, caseTable(suite, rows)]),
    ];
  });
  return `${[
    '# Benchmarks',
    '<!-- Written by tests/bench/report.ts from the results of `make bench`; not by hand. -->',
    'Made by `make bench`: load generator, system under test and upstream are separate processes; systems take turns within each repetition, another one first each time. ' +
      `Repetitions: ${repetitions}${repetitions < 5 ? ' (a short run; five are the default)' : ''}. ${timing.warmUpMs / 1000} s of warm-up, then ${timing.measureMs / 1000} s measured. ` +
      'Figures are medians, ranges in brackets. CPU is what the operating system booked on every process of the system, Redis included. ' +
      'Latency runs from when a request was due (an open schedule: a stall delays those behind it, and they say so) to when the last of its items, found by id, was at the upstream.',
    `Machine: ${machine.cores} × ${machine.cpu}, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, ${machine.system}, kernel ${machine.kernel}; ` +
      `Node ${machine.node}, Redis ${machine.redis}, Go ${machine.go}. Commit ${machine.commit}, ${machine.at.slice(0, 10)}. ` +
      `Median load average while measuring: ${load.toFixed(1)} on ${machine.cores} cores, the benchmark itself included${load > 1.2 * machine.cores ? ': a busy machine, so latency is an upper bound' : ''}.`,
    ...notes.map((note) => `Note: ${note}.`),
    '## Targets',
    targets(results),
    ...sections,
    ...(headline.length > 0
      ? ['## Where it goes, by process', 'At 20 requests/s × 500 spans, gzip.', processTable(headline)]
      : []),
    readFileSync(join(ROOT, 'tests/bench/account.md'), 'utf8').trim(),
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
