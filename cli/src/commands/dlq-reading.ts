import { createWriteStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ConfigError } from '@nrdot/config';
import {
  AREAS,
  type FileSystem,
  NodeFileSystem,
  readDirectory,
  type SegmentInfo,
  type SegmentReport,
  verifyDirectory,
} from '@nrdot/segment-log';
import { countText, numberText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { errorJson } from '../error-json.ts';
import { print, printable, table } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { segmentTable } from './dlq.ts';
import { type SelectionFlags, selectionQuery } from './dlq-selection.ts';

interface ReadingFlags extends AdminFlags {
  /** A directory that no service has open; without it, a running service is asked. */
  dir?: string;
}

/** `nrdot dlq verify`: checks every byte against its checksums. Exit code 1 if something is damaged. */
export async function verifyCommand(flags: ReadingFlags): Promise<void> {
  const line = new ProgressLine();
  const isDamaged = ({ state }: { state: string }) => state === 'damaged';
  let damaged: number;
  if (flags.dir === undefined) {
    const segments: SegmentInfo[] = [];
    const lines = new AdminClient(flags).lines('/api/dlq/verify', untilInterrupted(), 'POST');
    for await (const text of lines) {
      segments.push(JSON.parse(text) as SegmentInfo);
      line.show(checkedText(segments));
    }
    line.done();
    damaged = segments.filter(isDamaged).length;
    const bad = segments.flatMap(({ area, sequence, damage }) =>
      damage.map((reason) => printable(`${area}/${sequence}: ${reason}`)),
    );
    const head = segmentTable(segments) || 'There are no segments.';
    print(flags, segments, [head, '', `${checkedText(segments)}.`, ...bad].join('\n'));
  } else {
    const reports: SegmentReport[] = [];
    for await (const report of verifyDirectory(directory(flags.dir), flags.dir)) {
      reports.push(report);
      line.show(`${reports.length} segments checked`);
    }
    line.done();
    damaged = reports.filter(isDamaged).length;
    print(flags, reports, reportText(reports));
  }
  if (damaged > 0) process.exitCode = 1;
}

/** An open segment gets its hash when it is sealed. */
function checkedText(segments: readonly SegmentInfo[]): string {
  const open = segments.filter(({ file }) => file === 'open').length;
  const checked = segments.filter(
    ({ file, verified, damage }) => file !== 'open' && (verified || damage.length > 0),
  );
  const left = segments.length - open - checked.length;
  return [
    `${countText(checked.length, 'segment')} checked`,
    ...(open > 0 ? [`${numberText(open)} skipped (open: still being written)`] : []),
    ...(left > 0 ? [`${numberText(left)} could not be checked`] : []),
  ].join(', ');
}

interface ExportFlags extends ReadingFlags, SelectionFlags {
  output?: string;
}

interface Exported {
  batches: number;
  /** Profiles, and payloads that are not valid OTLP. */
  left: number;
  damaged: number;
}

/** `nrdot dlq export`: batches as OTLP JSON, one per line. With `--json`, the result is JSON on standard error. */
export async function exportCommand(flags: ExportFlags): Promise<void> {
  const told: Exported = { batches: 0, left: 0, damaged: 0 };
  try {
    if (!(await exported(flags, told))) return;
  } catch (error) {
    if (!flags.json) throw error;
    // Standard output has the exported batches: an error there would be taken for one.
    process.stderr.write(`${JSON.stringify(errorJson(error))}\n`);
    process.exitCode = error instanceof ConfigError ? 2 : 1;
    return;
  }
  process.stderr.write(`${flags.json ? JSON.stringify(told) : exportedText(flags, told)}\n`);
}

/** @returns false if the reader has closed the pipe */
async function exported(flags: ExportFlags, told: Exported): Promise<boolean> {
  const query = selectionQuery(flags, Date.now());
  const lines =
    flags.dir === undefined
      ? new AdminClient(flags).lines(`/api/dlq/export?${new URLSearchParams(query)}`, untilInterrupted())
      : offline(flags.dir, query, told);
  const counted = async function* () {
    for await (const line of lines) {
      told.batches++;
      yield `${line}\n`;
    }
  };
  try {
    const from = Readable.from(counted());
    // Contains payloads: readable for the owner only, and never overwrites a file.
    const file = (path: string) => createWriteStream(path, { flags: 'wx', mode: 0o600 });
    await (flags.output === undefined
      ? pipeline(from, process.stdout, { end: false })
      : pipeline(from, file(flags.output)));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EPIPE') return false;
    if (code === 'EEXIST') throw new Error(`--output ${flags.output}: it already exists; name another file`);
    const where = flags.output === undefined ? 'standard output' : `--output ${flags.output}`;
    throw code?.startsWith('E') ? new Error(`${where}: ${message}; the export is incomplete`) : error;
  }
  return true;
}

function exportedText({ output, dir }: ExportFlags, { batches, left, damaged }: Exported): string {
  const where = output === undefined ? '' : ` to ${output}`;
  return [
    `Exported ${numberText(batches)} batches${where}; they are still on the disk.`,
    ...(left > 0 ? [`${left} were left out: they are profiles, or not valid OTLP.`] : []),
    ...(damaged > 0 ? [`${damaged} are damaged; "nrdot dlq verify --dir ${dir}" shows where.`] : []),
  ].join('\n');
}

async function* offline(dir: string, query: Record<string, string>, told: Exported): AsyncGenerator<string> {
  const fs = directory(dir);
  const { exportParts, isSelected, selectionOf } = await import('@nrdot/dlq');
  const selection = selectionOf(query, AREAS);
  for await (const { record, acked } of readDirectory(fs, dir, selection.areas)) {
    if (acked) continue;
    if (!record) told.damaged++;
    else if (isSelected(selection, record.envelope)) {
      const { parts } = exportParts(record);
      if (parts) yield [...parts].join('');
      else told.left++;
    }
  }
}

/** @throws Error if it is not a dlq's directory */
function directory(dir: string): FileSystem {
  if (AREAS.some((area) => existsSync(join(dir, area)))) return new NodeFileSystem();
  throw new Error(
    `--dir ${dir}: there are no segments; expected dlq.dir of a configuration, such as nrdot-data/dlq, with ${AREAS.join(', ')} in it`,
  );
}

function reportText(reports: readonly SegmentReport[]): string {
  const rows = table(
    ['FILE', 'STATE', 'BATCHES', 'ITEMS', 'DONE', 'LOST ITEMS'],
    reports.map(({ file, state, records, items, ackedRecords, lostItems }) => [
      ...[file, state],
      ...[records, items, ackedRecords, lostItems].map(numberText),
    ]),
  );
  const bad = reports.flatMap(({ file, damage }) => damage.map((reason) => `${file}: ${reason}`));
  return [rows || 'There are no segments.', ...(bad.length > 0 ? ['', ...bad] : [])].join('\n');
}

/** Aborts reading at Ctrl-C, and exits with the status of an interrupted program. */
function untilInterrupted(): AbortSignal {
  const interrupted = new AbortController();
  process.once('SIGINT', () => {
    process.exitCode = 130;
    interrupted.abort();
  });
  return interrupted.signal;
}
