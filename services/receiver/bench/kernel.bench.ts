/**
 * The hash kernel alone: finding points and hashing their attributes in WebAssembly, beside the same in JavaScript.
 * Run: node services/receiver/bench/kernel.bench.ts
 */
import { Hash64 } from '../src/limiter/hash.ts';
import { encode, type MetricData } from '../src/limiter/test/otlp.ts';
import { Reader } from '../src/limiter/wire/reader.ts';
import { ATTRIBUTE_WORDS, LISTED_MAX, Scanner, scanAttributes } from '../src/limiter/wire/scan.ts';

const POINTS = 1000;
/** Of a data point of a sum. */
const ATTRIBUTES_FIELD = 7;
const SEED = { lo: 0x12345678, hi: 0x1abcdef0 };

function body(): Uint8Array {
  const points = Array.from({ length: POINTS }, (_, i) => ({
    labels: {
      'http.request.method': 'GET',
      'http.route': `/api/v1/orders/${i % 6}`,
      'http.response.status_code': 200n,
      'server.address': 'orders.shop.svc.cluster.local',
      'user.id': `u-${i.toString(36).padStart(10, '0')}`,
    },
    time: 1n,
    int: BigInt(i),
  }));
  const metric: MetricData = { name: 'http.server.requests', kind: 'sum', temporality: 1, points };
  return encode([{ labels: {}, scopes: [{ metrics: [metric] }] }]);
}

/** Where the sum of the one metric begins and ends. */
function dataOf(bytes: Uint8Array): [number, number] {
  const reader = new Reader().open(bytes, 0, bytes.length);
  for (const field of [1, 2, 2]) {
    while (reader.next() && reader.field !== field);
    reader.open(bytes, reader.start, reader.end);
  }
  while (reader.next() && reader.field !== 7);
  return [reader.start, reader.end];
}

/** Median over rounds of a tenth of a second, after some to warm up. */
function nsPerPoint(run: () => void): number {
  const rounds = Array.from({ length: 10 }, () => {
    const start = process.hrtime.bigint();
    let calls = 0;
    let ns = 0;
    while (ns < 1e8) {
      for (let i = 0; i < 20; i++) run();
      calls += 20;
      ns = Number(process.hrtime.bigint() - start);
    }
    return ns / calls / POINTS;
  });
  return rounds.slice(3).sort((a, b) => a - b)[3]!;
}

const bytes = body();
const [from, to] = dataOf(bytes);
const scanner = new Scanner();
const records = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);
const sum = new Hash64();
const reader = new Reader();
const rows: [string, () => void][] = [
  [
    'kernel, 5 attributes a point',
    () => {
      scanner.release();
      for (let at = from; at < to; at = scanner.next) scanner.scan(bytes, at, to, ATTRIBUTES_FIELD, SEED);
    },
  ],
  [
    'the same in JavaScript',
    () => {
      reader.open(bytes, from, to);
      while (reader.next())
        if (reader.field === 1)
          scanAttributes(bytes, reader.start, reader.end, ATTRIBUTES_FIELD, SEED, records, 0, sum);
    },
  ],
];
for (const [name, run] of rows) {
  const ns = nsPerPoint(run);
  const perSecond = ((to - from) / POINTS / ns) * 1000;
  console.log(`${ns.toFixed(0).padStart(6)} ns per point  ${name}, ${perSecond.toFixed(0)} MB/s`);
}
