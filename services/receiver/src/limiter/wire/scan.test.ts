import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Hash64 } from '../hash.ts';
import { KERNEL_BASE64 } from '../kernel/bytes.ts';
import { encode, type Labels, type Value } from '../test/otlp.ts';
import { Reader } from './reader.ts';
import { ATTRIBUTE_WORDS, LISTED_MAX, POINT_WORDS, Scanner, scanAttributes } from './scan.ts';

const SEED = { lo: 0x12345678, hi: -0x2468ace };

interface Scanned {
  sum: string;
  attributes: string[];
}

/** What the kernel and the slow way behind it say of the points in `bytes[from, to)`. */
function scanAll(bytes: Uint8Array, from: number, to: number, field: number): Scanned[] {
  const scanner = new Scanner();
  const found: Scanned[] = [];
  for (let at = from; at < to; at = scanner.next) {
    const count = scanner.scan(bytes, at, to, field, SEED);
    for (let p = 0; p < count * POINT_WORDS; p += POINT_WORDS) {
      if (scanner.points[p + 7] !== 0) scanner.resolve(p, bytes, field, SEED);
      scanner.select(p);
      const attributes: string[] = [];
      for (let i = 0; i < scanner.listed; i++) {
        const word = scanner.attributeAt + i * ATTRIBUTE_WORDS;
        const record = Array.from(scanner.attributes.subarray(word, word + ATTRIBUTE_WORDS));
        attributes.push([record[0]! + scanner.base, record[1]! + scanner.base, ...record.slice(2)].join());
      }
      found.push({ sum: `${scanner.points[p + 3]},${scanner.points[p + 4]}`, attributes });
    }
  }
  return found;
}

/** The same by the canonical way alone. */
function scanSlowly(bytes: Uint8Array, from: number, to: number, field: number): Scanned[] {
  const found: Scanned[] = [];
  const records = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);
  const sum = new Hash64();
  const reader = new Reader().open(bytes, from, to);
  while (reader.next()) {
    if (reader.field !== 1 || reader.wire !== 2) continue;
    const n = scanAttributes(bytes, reader.start, reader.end, field, SEED, records, 0, sum);
    const attributes = Array.from({ length: n }, (_, i) =>
      Array.from(records.subarray(i * ATTRIBUTE_WORDS, (i + 1) * ATTRIBUTE_WORDS)).join(),
    );
    found.push({ sum: `${sum.lo},${sum.hi}`, attributes });
  }
  return found;
}

const value: fc.Arbitrary<Value> = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 200 }) },
  fc.boolean(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -3n, max: 300n }),
  fc.double(),
  fc.array(fc.string({ maxLength: 3 }), { maxLength: 3 }),
  fc.dictionary(fc.string({ maxLength: 3 }), fc.string({ maxLength: 3 }), { maxKeys: 3 }),
);
const labels: fc.Arbitrary<Labels> = fc.dictionary(fc.string({ maxLength: 150 }), value, { maxKeys: 6 });

/** The data message of a request with one metric. */
function dataOf(body: Uint8Array): [number, number] {
  const reader = new Reader().open(body, 0, body.length);
  const path = [1, 2, 2];
  for (const field of path) {
    while (reader.next() && reader.field !== field);
    reader.open(body, reader.start, reader.end);
  }
  while (reader.next() && reader.field < 5);
  return [reader.start, reader.end];
}

function sumOf(points: Labels[]): Uint8Array {
  const metric = {
    name: 'm',
    kind: 'sum' as const,
    temporality: 1 as const,
    points: points.map((one, i) => ({ labels: one, int: BigInt(i), start: 1n, time: 2n, flags: i })),
  };
  return encode([{ labels: {}, scopes: [{ metrics: [metric] }] }]);
}

describe('Scanner', () => {
  it('agrees with the reference implementation on any labels', () => {
    fc.assert(
      fc.property(fc.array(labels, { maxLength: 8 }), (points) => {
        const body = sumOf(points);
        const [from, to] = dataOf(body);
        expect(scanAll(body, from, to, 7)).toEqual(scanSlowly(body, from, to, 7));
      }),
      { numRuns: 300 },
    );
  });

  it('agrees on corrupted bytes, if they are messages at all', () => {
    const damage = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(labels, { minLength: 1, maxLength: 3 }), damage, (points, changes) => {
        const body = Uint8Array.from(sumOf(points));
        const [from, to] = dataOf(body);
        for (const [at, byte] of changes) body[from + (at % (to - from))] = byte;
        let slow: Scanned[];
        try {
          slow = scanSlowly(body, from, to, 7);
        } catch {
          return; // refused before it comes here
        }
        expect(scanAll(body, from, to, 7)).toEqual(slow);
      }),
      { numRuns: 500 },
    );
  });

  it('continues beyond its memory: many points, many labels, points larger than its window', () => {
    const many = Array.from({ length: 3000 }, (_, i) => ({ id: `value-${i}`, route: '/a', code: 200n }));
    const wide = Array.from({ length: 60 }, (_, i) =>
      Object.fromEntries(Array.from({ length: 140 }, (_, k) => [`key-${k}`, `value-${i}`])),
    );
    const large = [
      { id: 'x' },
      { blob: 'y'.repeat(400_000) },
      { id: 'z' },
      { blob: 'y'.repeat(290_000) },
      { id: 'z' },
    ];
    for (const points of [many, wide, large] as Labels[][]) {
      const body = sumOf(points);
      const [from, to] = dataOf(body);
      const found = scanAll(body, from, to, 7);
      expect(found.length).toBe(points.length);
      expect(found).toEqual(scanSlowly(body, from, to, 7));
    }
  });

  it('yields one hash for every encoding and order of the same labels', () => {
    const plain = sumOf([{ a: 'x', b: 5n }]);
    const [from, to] = dataOf(plain);
    const expected = scanAll(plain, from, to, 7)[0]!.sum;
    const a = [0x3a, 8, 0x0a, 1, 0x61, 0x12, 3, 0x0a, 1, 0x78];
    const b = [0x3a, 7, 0x0a, 1, 0x62, 0x12, 2, 0x18, 5];
    const variants = {
      'other order': [...b, ...a],
      'value before key': [0x3a, 8, 0x12, 3, 0x0a, 1, 0x78, 0x0a, 1, 0x61, ...b],
      'longer varint': [...a, 0x3a, 8, 0x0a, 1, 0x62, 0x12, 3, 0x18, 0x85, 0],
      'longer length': [0x3a, 0x88, 0, 0x0a, 1, 0x61, 0x12, 3, 0x0a, 1, 0x78, ...b],
      'longer tag': [0xba, 0, 8, 0x0a, 1, 0x61, 0x12, 3, 0x0a, 1, 0x78, ...b],
      'value in two pieces': [0x3a, 12, 0x0a, 1, 0x61, 0x12, 2, 0x18, 9, 0x12, 3, 0x0a, 1, 0x78, ...b],
      'the last of two keys': [0x3a, 11, 0x0a, 1, 0x7a, 0x0a, 1, 0x61, 0x12, 3, 0x0a, 1, 0x78, ...b],
    };
    for (const [name, attributes] of Object.entries(variants)) {
      const bytes = Uint8Array.from([0x0a, attributes.length, ...attributes]);
      expect(
        scanAll(bytes, 0, bytes.length, 7).map(({ sum }) => sum),
        name,
      ).toEqual([expected]);
    }
  });

  it('distinguishes values that only look alike', () => {
    const points: Labels[] = [
      { a: 'b' },
      { a: 'c' },
      { ab: '' },
      { a: '1' },
      { a: 1n },
      { a: 1 },
      { a: true },
      { '': 'ab' },
    ];
    points.push({ a: '', b: '' }, { a: ['b'] }, { a: { b: '' } }, { a: [['b']] }, {});
    const body = sumOf(points);
    const [from, to] = dataOf(body);
    expect(new Set(scanAll(body, from, to, 7).map(({ sum }) => sum)).size).toBe(points.length);
  });

  it('was built from the current scan.as', async () => {
    const { compileKernel } = await import('../kernel/build.ts');
    expect(Buffer.from(await compileKernel()).toString('base64')).toBe(KERNEL_BASE64);
  });
});
