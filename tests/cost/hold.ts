/**
 * How long one request may hold the event loop: the worst that we can construct, against a receiver with default limits.
 *     node tests/cost/hold.ts
 * It measures CPU time of the thread between two turns of the loop, so it is no test. docs/security.md has what it said.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { loadConfig } from '@nrdot/config';
import type { ContentEncoding } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';
import { Classifier } from '../../services/receiver/src/classifier/classifier.ts';
import { type IngestDeps, ingest } from '../../services/receiver/src/ingest.ts';
import { LargeRequests } from '../../services/receiver/src/large-request.ts';
import { CardinalityLimiter } from '../../services/receiver/src/limiter/index.ts';
import { localLimit } from '../../services/receiver/src/limiter/test/local-limit.ts';
import { limiterOptions } from '../../services/receiver/src/limiter/test/options.ts';
import { field, ofBytes, SHAPES, shapesOf, WALKED, type Walked } from './shapes.ts';

const MIB = 2 ** 20;
const classifierOf = (text: string) => new Classifier(loadConfig({ env: {}, text }).config.priority);
const byDefault = classifierOf('');
const large = new LargeRequests();

function deps(classifier: Classifier, fix: boolean): IngestDeps {
  const limiter = new CardinalityLimiter(limiterOptions(), { now: Date.now, seed: 1 });
  const enqueue = async (batches: readonly Batch[]) => batches.map(() => 'queued' as const);
  return {
    enqueue,
    store: undefined,
    limit: localLimit(limiter, enqueue),
    classify: (signal, body) => classifier.classify(signal, body),
    rules: () => classifier,
    large,
    fix: { isOn: fix, count: () => {} },
    now: Date.now,
  };
}

async function hold(
  signal: Walked,
  wire: Buffer,
  encoding: ContentEncoding,
  format: 'protobuf' | 'json',
  fix = false,
  invalidUtf8: 'reject_item' | 'replace' = 'reject_item',
  classifier = byDefault,
) {
  const reservation = { reserve: () => {}, look: () => {}, release: () => {} };
  const limits = { maxBodyBytes: 64 * MIB, maxDepth: 64, invalidUtf8 };
  let longest = 0;
  let before = cpuMs();
  let isOver = false;
  const look = () => {
    const now = cpuMs();
    longest = Math.max(longest, now - before);
    before = now;
    if (!isOver) setImmediate(look);
  };
  setImmediate(look);
  const outcome = await ingest(
    { signal, format, encoding, wire, reservation },
    limits,
    deps(classifier, fix),
  ).then(
    ({ items }) => `${items} items`,
    ({ message }: Error) => message,
  );
  look();
  isOver = true;
  return { longest, outcome };
}

/** Of this thread: other work on the machine does not count. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** What making a body leaves behind, millions of buffers of some, is not the receiver's to collect. */
function collect(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

/** `node tests/cost/hold.ts empty`: only what has this in its name. */
const only = process.argv[2] ?? '';

async function say(what: string, make: () => Parameters<typeof hold>): Promise<void> {
  if (!what.includes(only)) return;
  const request = make();
  collect();
  const { longest, outcome } = await hold(...request);
  console.log(`${longest.toFixed(0).padStart(6)} ms  ${what}: ${outcome}`);
}

// What compiling costs the first of all requests is none of a shape's.
for (const signal of WALKED) await hold(signal, SHAPES.resources!(signal, 5_000), 'identity', 'protobuf');
for (const bytes of [0.9 * MIB, 60 * MIB]) {
  for (const signal of WALKED) {
    for (const [name, make] of shapesOf(signal)) {
      await say(`${(bytes / MIB).toFixed(1)} MiB ${signal}: ${name}`, () => [
        signal,
        ofBytes(make, bytes),
        'identity',
        'protobuf',
      ]);
    }
  }
}
for (const signal of WALKED) {
  for (const [name, make] of shapesOf(signal)) {
    const bytes = signal === 'metrics' ? 0.24 * MIB : 0.9 * MIB;
    await say(`${(bytes / MIB).toFixed(1)} MiB ${signal}, with check.fix: ${name}`, () => [
      ...([signal, ofBytes(make, bytes), 'identity', 'protobuf', true] as const),
    ]);
  }
}
const small: [what: string, Walked, Buffer][] = [
  ['resources of one record', 'logs', field(1, field(2, field(2)))],
  ['scopes of one record', 'logs', field(2, field(2))],
  ['empty scopes', 'logs', field(2)],
  ['spans of one link', 'traces', field(2, field(13))],
  ['records of one empty attribute', 'logs', field(2, field(6))],
  ['records of one map', 'logs', field(2, field(6, field(2, field(6))))],
];
for (const bytes of [0.24 * MIB, 0.99 * MIB])
  for (const [what, signal, unit] of small)
    await say(`${(bytes / MIB).toFixed(2)} MiB ${signal}, with check.fix: ${what}`, () => {
      const units = Buffer.alloc(bytes - (bytes % unit.byteLength), unit);
      const isResource = what.startsWith('resources');
      const isScope = /^(empty )?scopes/.test(what);
      const last = field(1, field(2, field(2)));
      const whole = isResource ? units : field(1, isScope ? units : field(2, units));
      return [signal, Buffer.concat([whole, last]), 'identity', 'protobuf', true];
    });
/** One log record whose body is one string. */
const value = () => field(1, field(2, field(2, field(5, field(1, Buffer.alloc(60 * MIB, 'x'))))));
for (const bytes of [0.9 * MIB, 60 * MIB]) {
  const flawed = field(2, field(2, Buffer.from([1])));
  await say(`${(bytes / MIB).toFixed(1)} MiB of spans with an id that is none`, () => [
    'traces',
    field(1, field(2, Buffer.alloc(bytes - (bytes % flawed.byteLength), flawed))),
    'identity',
    'protobuf',
  ]);
}
/** A block of deflate, its codes by lengths, that holds nothing; eight of them are whole bytes. */
const EMPTY_BLOCK = `0010000000000011100000010${'0'.repeat(43)}1001111111111101011000`;
const [HEAD_BYTES, BITS] = [10, 8];
const emptyBlocks = (bytes: number) => {
  const eight = EMPTY_BLOCK.repeat(BITS).match(/.{8}/g)!;
  const of8 = Buffer.from(eight.map((bits) => Number.parseInt([...bits].reverse().join(''), 2)));
  const end = gzipSync('');
  const times = Math.floor(bytes / of8.byteLength);
  return Buffer.concat([
    end.subarray(0, HEAD_BYTES),
    Buffer.alloc(times * of8.byteLength, of8),
    end.subarray(HEAD_BYTES),
  ]);
};
for (const bytes of [0.12 * MIB, 0.9 * MIB])
  await say(`${bytes / MIB} MiB of gzip in empty blocks`, () => [
    ...(['logs', emptyBlocks(bytes), 'gzip', 'protobuf'] as const),
  ]);
await say('60 MiB of one value in gzip', () => ['logs', gzipSync(value()), 'gzip', 'protobuf']);
await say('60 MiB of one value in zstd', () => ['logs', zstdCompressSync(value()), 'zstd', 'protobuf']);
await say('60 MiB of one value in deflate', () => ['logs', deflateSync(value()), 'deflate', 'protobuf']);
const bad = field(6, field(1, Buffer.from([0xff])));
for (const what of ['reject_item', 'replace'] as const)
  await say(`0.9 MiB of keys that are not UTF-8, with ${what}`, () => [
    ...([
      'logs',
      field(1, field(2, field(2, Buffer.alloc(188_000 * bad.byteLength, bad)))),
      'identity',
      'protobuf',
    ] as const),
    ...([false, what] as const),
  ]);
const half = '{"key":"\\ud800"},';
await say('0.5 MiB of JSON: halves of surrogate pairs', () => [
  'logs',
  Buffer.from(
    `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[${half.repeat((0.5 * MIB) / half.length - 9)}{}]}]}]}]}`,
  ),
  'identity',
  'json',
]);
const record = '{"body":{"stringValue":"x"}}';
for (const bytes of [0.9 * MIB, 60 * MIB]) {
  const records = `${record},`.repeat(bytes / (record.length + 1) - 3);
  await say(`${(bytes / MIB).toFixed(1)} MiB of JSON`, () => [
    'logs',
    Buffer.from(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[${records}${record}]}]}]}`),
    'identity',
    'json',
  ]);
}
// The rules of docs/priority.md, and names that never repeat with a pattern for them.
const ofDocs = classifierOf(`priority:
  rules:
    - { class: critical, status: error }
    - { class: critical, severity: { min: error } }
    - { class: high, resource: { service.name: { regex: '^(checkout|payments)$' } } }
    - { class: high, signal: traces, scope: io.opentelemetry.http }
`);
const ofNames = classifierOf(`priority: {rules: [{class: high, span: {regex: '(?i)error|fail'}}]}`);
const failed = field(2, field(15, Buffer.from([0x18, 2])));
const named = (bytes: number) =>
  Array.from({ length: bytes / 14 }, (_, i) => field(2, field(5, Buffer.from(String(1e9 + i)))));
const turns = (bytes: number, ...units: Buffer[]) => {
  const unit = Buffer.concat(units);
  return Buffer.alloc(bytes - (bytes % unit.byteLength), unit);
};
type Ruled = [what: string, Walked, Classifier, (bytes: number) => Buffer];
const ruled: Ruled[] = [
  ['by severity', 'logs', ofDocs, (n) => field(2, turns(n, field(2, Buffer.from([0x10, 17])), field(2)))],
  ['by status', 'traces', ofDocs, (n) => field(2, turns(n, failed, field(2)))],
  ['by status, in scopes', 'traces', ofDocs, (n) => turns(n, field(2, failed), field(2, field(2)))],
  ['by scope, in pieces', 'traces', ofDocs, (n) => field(2, turns(n, field(1)), failed)],
  ['by status, in pieces', 'traces', ofDocs, (n) => field(2, field(2, turns(n, field(15))))],
  ['by names that are new', 'traces', ofNames, (n) => field(2, ...named(n))],
];
for (const bytes of [0.09 * MIB, 0.9 * MIB, 60 * MIB])
  for (const [what, signal, classifier, make] of ruled) {
    if (bytes > MIB && what === 'by names that are new') continue; // its items alone are the script's to make
    await say(`${(bytes / MIB).toFixed(2)} MiB of ${signal}, rules: ${what}`, () => [
      ...([signal, field(1, make(Math.floor(bytes))), 'identity', 'protobuf'] as const),
      ...([false, undefined, classifier] as const),
    ]);
  }
for (const integer of ['100', '1e0', '1e19', '1.5'])
  await say(`0.24 MiB of JSON: integers like ${integer}`, () => {
    const counts = `${integer},`.repeat((0.24 * MIB) / (integer.length + 1));
    const points = `{"dataPoints":[{"positive":{"bucketCounts":[${counts}0]}}]}`;
    const metric = `{"name":"m","exponentialHistogram":${points}}`;
    const json = `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[${metric}]}]}]}`;
    return ['metrics', Buffer.from(json), 'identity', 'json'];
  });
await large.stop();
