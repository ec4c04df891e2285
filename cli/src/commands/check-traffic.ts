import { createReadStream, statSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { jsonToProtobuf, type Signal, walk } from '@nrdot/otlp';
import { CheckCounts, type CheckReport, type LiveCheckReport, RequestCheck } from '@nrdot/receiver';
import { numberText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { print, table } from '../output.ts';

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
export async function checkTrafficCommand(flags: AdminFlags): Promise<void> {
  const report = await new AdminClient(flags).get<LiveCheckReport>('/api/check');
  print(flags, report, trafficText(report));
}

/** `nrdot check file`: what New Relic would drop or change in the requests in files. */
export async function checkFileCommand(
  files: readonly string[],
  flags: { signal?: Signal; json?: boolean },
): Promise<void> {
  const counts = new CheckCounts();
  const check = new RequestCheck(counts);
  const nowMs = Date.now();
  for (const file of files)
    for (const { signal, body } of requestsOf(file, await readFile(file), flags.signal))
      check.request(signal, body, nowMs);
  const report = counts.report();
  print(flags, report, reportText(report));
  if (report.rows.length > 0) process.exitCode = FOUND;
}

async function readFile(file: string): Promise<Buffer> {
  try {
    const bytes = await readAtMost(file, FILE_MAX_BYTES);
    if (bytes) return bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes;
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}; expected a readable file`);
  }
  throw new Error(`${file} is too large; expected a file of at most ${FILE_MAX_BYTES} bytes`);
}

/** Reads a file without relying on its size, which pipes and devices do not have. @returns undefined if it is larger */
async function readAtMost(file: string, most: number): Promise<Buffer | undefined> {
  if (statSync(file).size > most) return undefined;
  const bytes = await buffer(createReadStream(file, { end: most, highWaterMark: READ_BYTES }));
  return bytes.byteLength > most ? undefined : bytes;
}

interface Request {
  signal: Signal;
  body: Buffer;
}

/**
 * The requests in a file: a single one in protobuf, or JSON, either one per line or one in total.
 * @throws Error that names file and line
 */
function requestsOf(file: string, bytes: Buffer, signal: Signal | undefined): Request[] {
  // Protobuf whose first resource has 123 bytes looks like the beginning of JSON.
  if (signal && !protobufFault(signal, bytes)) return [{ signal, body: bytes }];
  const first = bytes.find((byte) => byte > 0x20);
  if (first !== 0x7b) {
    if (!signal) throw new Error(`${file} is not JSON; expected --signal with a request in protobuf`);
    throw new Error(`${file}: ${protobufFault(signal, bytes)}; expected a request of ${signal} in protobuf`);
  }
  const whole = requestsIn(file, bytes);
  if (whole) return whole;
  return [...linesOf(bytes)].flatMap(({ line, number }) => {
    const place = `${file}:${number}`;
    const requests = requestsIn(place, line);
    if (requests) return requests;
    throw new Error(
      `${place}: expected a request as OTLP JSON, with resourceSpans, resourceMetrics or resourceLogs`,
    );
  });
}

/** Why it is no request in protobuf; undefined if it is one. */
function protobufFault(signal: Signal, bytes: Buffer): string | undefined {
  try {
    walk(signal, bytes, {});
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * The parts of a JSON that belong to a signal; undefined if it is invalid JSON or has none.
 * @throws Error that names the position and the invalid field
 */
function requestsIn(place: string, json: Buffer): Request[] | undefined {
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

function* linesOf(bytes: Buffer): Generator<{ line: Buffer; number: number }> {
  for (let start = 0, end: number, number = 1; start < bytes.byteLength; number++, start = end + 1) {
    end = bytes.indexOf(0x0a, start);
    if (end < 0) end = bytes.byteLength;
    const line = bytes.subarray(start, end);
    if (line.some((byte) => byte > 0x20)) yield { line, number };
  }
}

function trafficText(report: LiveCheckReport): string {
  const { sample, batches } = report;
  if (sample === 0)
    return 'Nothing is checked: check.sample is 0. Set it (live), or exporter.preset: newrelic.';
  const looked = `${numberText(batches.checked)} batches checked, ${(100 * sample).toLocaleString('en-US')} % of all`;
  const skipped =
    batches.skipped === 0
      ? ''
      : `; ${numberText(batches.skipped)} were skipped (too large, or too many at once)`;
  return `${looked}${skipped}.\n${reportText(report)}`;
}

function reportText({ checked, rows }: CheckReport): string {
  const items = Object.entries(checked).map(([signal, count]) => `${numberText(count)} of ${signal}`);
  if (items.length === 0) return 'No items.';
  if (rows.length === 0) return `${items.join(', ')}: everything would arrive unchanged.`;
  const found = table(
    ['EFFECT', 'ITEMS', 'SIGNAL', 'SERVICE', 'RULE', 'WHAT', 'EXAMPLE'],
    rows.map(({ effect, items, signal, service, rule, what, example }) => [
      ...[effect, `${numberText(items)} (${share(items, checked[signal] ?? items)})`, signal],
      ...[service || '-', rule, what, example || '-'],
    ]),
  );
  return `${items.join(', ')}. New Relic would answer 200, and:\n${found}`;
}

function share(items: number, of: number): string {
  const percent = (100 * items) / of;
  return percent > 0 && percent < 0.1 ? '< 0.1 %' : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}
