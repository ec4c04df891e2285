import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { jsonToProtobuf, type Signal, walk } from '@nrdot/otlp';
import { CheckCounts, type CheckReport, type LiveCheckReport, RequestCheck } from '@nrdot/receiver';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { table } from '../table.ts';

/** Exit code: something would not arrive as it was sent. */
const FOUND = 3;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);
const FILE_MAX_BYTES = 256 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const RESOURCES: Readonly<Record<string, Signal>> = {
  resourceSpans: 'traces',
  resource_spans: 'traces',
  resourceMetrics: 'metrics',
  resource_metrics: 'metrics',
  resourceLogs: 'logs',
  resource_logs: 'logs',
};

/** `nrdot check traffic`: what New Relic would drop or change in what a receiver gets. */
export async function checkTrafficCommand(flags: AdminFlags & { json?: boolean }): Promise<void> {
  const report = await new AdminClient(flags).get<LiveCheckReport>('/api/check');
  process.stdout.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : trafficText(report));
}

/** `nrdot check file`: what New Relic would drop or change in the requests in files. */
export function checkFileCommand(files: readonly string[], flags: { signal?: Signal; json?: boolean }): void {
  const counts = new CheckCounts();
  const check = new RequestCheck(counts);
  const nowMs = Date.now();
  for (const file of files)
    for (const { signal, body } of requestsOf(file, withoutMark(readFile(file)), flags.signal))
      check.request(signal, body, nowMs);
  const report = counts.report();
  process.stdout.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
  if (report.rows.length > 0) process.exitCode = FOUND;
}

function readFile(file: string): Buffer {
  try {
    const bytes = readAtMost(file, FILE_MAX_BYTES);
    if (bytes) return bytes;
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}; expected a readable file`);
  }
  throw new Error(`${file} is too large; expected a file of at most ${FILE_MAX_BYTES} bytes`);
}

/** Reads a file without relying on its size, which pipes and devices do not have. @returns undefined if it is larger */
function readAtMost(file: string, most: number): Buffer | undefined {
  if (statSync(file).size > most) return undefined;
  const descriptor = openSync(file, 'r');
  try {
    const parts: Buffer[] = [];
    for (let total = 0; total <= most; ) {
      const part = Buffer.allocUnsafe(READ_BYTES);
      const bytes = readSync(descriptor, part);
      if (bytes === 0) return Buffer.concat(parts);
      parts.push(bytes === READ_BYTES ? part : Buffer.from(part.subarray(0, bytes)));
      total += bytes;
    }
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}

/** Strips a byte order mark. */
function withoutMark(bytes: Buffer): Buffer {
  return bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes;
}

/**
 * The requests in a file: a single one in protobuf, or JSON, either one per line or one in total.
 * @throws Error that names file and line
 */
function requestsOf(
  file: string,
  bytes: Buffer,
  signal: Signal | undefined,
): { signal: Signal; body: Buffer }[] {
  // Protobuf whose first resource has 123 bytes looks like the beginning of JSON.
  if (signal && isProtobuf(signal, bytes)) return [{ signal, body: bytes }];
  const first = bytes.find((byte) => byte > 0x20);
  if (first !== 0x7b) {
    if (!signal) throw new Error(`${file} is not JSON; expected --signal with a request in protobuf`);
    try {
      walk(signal, bytes, {});
    } catch (error) {
      throw new Error(`${file}: ${(error as Error).message}; expected a request of ${signal} in protobuf`);
    }
    return [{ signal, body: bytes }];
  }
  const whole = requestsIn(file, bytes);
  if (whole) return whole;
  return linesOf(bytes).flatMap(({ line, number }) => {
    const requests = requestsIn(`${file}:${number}`, line);
    if (requests) return requests;
    throw new Error(
      `${file}:${number}: expected a request as OTLP JSON, with resourceSpans, resourceMetrics or resourceLogs`,
    );
  });
}

function isProtobuf(signal: Signal, bytes: Buffer): boolean {
  try {
    walk(signal, bytes, {});
    return true;
  } catch {
    return false;
  }
}

/**
 * The parts of a JSON that belong to a signal; undefined if it is invalid JSON or has none.
 * @throws Error that names the position and the invalid field
 */
function requestsIn(place: string, json: Buffer): { signal: Signal; body: Buffer }[] | undefined {
  let names: string[];
  try {
    names = Object.keys(JSON.parse(json.toString('utf8')) as object);
  } catch {
    return undefined;
  }
  const signals = new Set(names.flatMap((name) => (Object.hasOwn(RESOURCES, name) ? RESOURCES[name]! : [])));
  if (signals.size === 0) return undefined;
  try {
    return [...signals].map((signal) => ({ signal, body: jsonToProtobuf(signal, json) }));
  } catch (error) {
    throw new Error(`${place}: ${(error as Error).message}`);
  }
}

function linesOf(bytes: Buffer): { line: Buffer; number: number }[] {
  const lines: { line: Buffer; number: number }[] = [];
  for (let start = 0, number = 1; start < bytes.byteLength; number++) {
    const end = bytes.indexOf(0x0a, start);
    const line = bytes.subarray(start, end < 0 ? bytes.byteLength : end);
    if (line.some((byte) => byte > 0x20)) lines.push({ line, number });
    start = end < 0 ? bytes.byteLength : end + 1;
  }
  return lines;
}

function trafficText(report: LiveCheckReport): string {
  const { sample, batches } = report;
  if (sample === 0)
    return 'Nothing is checked: check.sample is 0. Set it (live), or exporter.preset: newrelic.\n';
  const looked = `${n(batches.checked)} batches checked, ${(100 * sample).toLocaleString('en-US')} % of all`;
  const skipped =
    batches.skipped === 0 ? '' : `; ${n(batches.skipped)} were skipped (too large, or too many at once)`;
  return `${looked}${skipped}.\n${reportText(report)}`;
}

function reportText({ checked, rows }: CheckReport): string {
  const items = Object.entries(checked).map(([signal, count]) => `${n(count)} of ${signal}`);
  if (items.length === 0) return 'No items.\n';
  if (rows.length === 0) return `${items.join(', ')}: everything would arrive unchanged.\n`;
  const found = table(
    ['EFFECT', 'ITEMS', 'SIGNAL', 'SERVICE', 'RULE', 'WHAT', 'EXAMPLE'],
    rows.map(({ effect, items, signal, service, rule, what, example }) => [
      effect,
      `${n(items)} (${share(items, checked[signal] ?? items)})`,
      signal,
      service || '-',
      rule,
      what,
      example || '-',
    ]),
  );
  return `${items.join(', ')}. New Relic would answer 200, and:\n${found}\n`;
}

function share(items: number, of: number): string {
  const percent = (100 * items) / of;
  return percent > 0 && percent < 0.1 ? '< 0.1 %' : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

function n(value: number): string {
  return value.toLocaleString('en-US');
}
