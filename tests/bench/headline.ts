/** The few figures that tell in minutes where a change has led: printed, and not for the page. */
import type { Measurement } from './measure.ts';
import type { Result } from './results.ts';
import { HEADLINE, ONE, SMALL, SPANS } from './suites.ts';
import { aimed, Reading } from './targets.ts';

const MIB = 1048576;
const CASES = [
  ['budget', HEADLINE],
  ['ceiling', SPANS],
  ['ceiling', SMALL],
] as const;

/** A table for each case, with the CPU of one process over that of each system, and what is aimed at. */
export function headline(results: readonly Result[]): string {
  const reading = new Reading(results);
  const tables = CASES.flatMap(([suite, name]) => {
    const measured = [...new Set(results.filter((r) => r.case === name).map(({ system }) => system))];
    const ours = (system: string) => system.startsWith('NRDOT+');
    const systems = [...measured.filter(ours), ...measured.filter((system) => !ours(system))];
    if (systems.length === 0) return [];
    const rows = systems.map((system) => {
      const cell = (of: (m: Measurement) => number | undefined, digits: number) =>
        reading.of(suite, name, system, of)?.toFixed(digits) ?? '–';
      return [
        system,
        cell((m) => m.cpuUsPerItem, 2),
        reading.ratio(suite, name, ONE, system)?.toFixed(2) ?? '–',
        cell((m) => m.itemsPerSecond, 0),
        cell((m) => m.latency?.p99Ms, 1),
        cell((m) => (m.memory.total?.rss ?? 0) / MIB, 0),
      ];
    });
    const head = ['', 'CPU µs per item', 'one process over it', 'items per second', 'p99 ms', 'RSS MiB'];
    return [`${name}\n${aligned([head, ...rows])}`];
  });
  const others = Math.max(...results.map((r) => r.others)).toFixed(2);
  const aims = aligned([['', 'wanted', 'measured', ''], ...aimed(reading)]).replaceAll('**', '');
  return [...tables, aims, `Others took at most ${others} cores.`].join('\n\n');
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '),
    )
    .join('\n');
}
