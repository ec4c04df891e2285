import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Hash64, hashSeeds, Random } from '../hash.ts';
import { KeyTable } from './key-table.ts';

const nothing = () => {};

describe('KeyTable', () => {
  it('agrees with a Map for any sequence of inserts, touches and removals', () => {
    const key = fc.integer({ min: 0, max: 60 });
    const op = fc.oneof(
      fc.record({ do: fc.constant('insert' as const), key }),
      fc.record({ do: fc.constant('remove' as const), key }),
    );
    fc.assert(
      fc.property(fc.array(op, { maxLength: 200 }), (ops) => {
        const table = new KeyTable(32);
        const model = new Map<number, number>();
        let now = 1;
        for (const { do: action, key } of ops) {
          now++;
          const lo = key % 3; // few first halves: long clusters, so that closing up is exercised
          const slot = table.find(lo, key);
          expect(slot >= 0).toBe(model.has(key));
          if (action === 'insert' && slot < 0) {
            const room = model.size < 32;
            expect(table.add(lo, key, key, now)).toBe(room);
            if (room) model.set(key, now);
          } else if (action === 'insert') {
            table.touch(slot, now);
            model.set(key, now);
          } else if (slot >= 0) {
            table.remove(slot);
            model.delete(key);
          }
        }
        expect(table.used).toBe(model.size);
        for (const [key, seen] of model) {
          const slot = table.find(key % 3, key);
          expect(table.metricId(slot)).toBe(key);
          expect(table.seenSec(slot)).toBe(seen);
        }
      }),
    );
  });

  it('never exceeds its limit in 10 million random operations, and allocates no memory', () => {
    const table = new KeyTable(65_536);
    const memory = table.memoryBytes;
    const random = new Random(7);
    let highest = 0;
    let refused = 0;
    let evicted = 0;
    const count = () => evicted++;
    for (let i = 0; i < 10_000_000; i++) {
      const now = 1 + (i >> 13); // about 1,200 s of 8,192 operations each
      const hi = random.next() % 400_000;
      const lo = Math.imul(hi, 0x9e3779b1);
      const slot = table.find(lo, hi);
      if (slot >= 0) table.touch(slot, now);
      else if (!table.add(lo, hi, 1, now)) {
        refused++;
        table.evict(64, now, 15, 1, count);
      }
      if (table.used > highest) highest = table.used;
    }
    expect(highest).toBe(65_536);
    expect(refused).toBeGreaterThan(0);
    expect(evicted).toBeGreaterThan(0);
    expect(table.memoryBytes).toBe(memory);
    expect(memory).toBeLessThanOrEqual(2 * 2 ** 20);
  });

  it('evicts only expired keys, and the coldest of them first', () => {
    const table = new KeyTable(64);
    for (let key = 0; key < 64; key++) table.add(key, key, key, 10);
    for (let hit = 0; hit < 40; hit++)
      for (let key = 0; key < 32; key++) table.touch(table.find(key, key), 20);
    for (let key = 60; key < 64; key++) table.touch(table.find(key, key), 500);
    expect(table.evict(10_000, 60, 100, 99, nothing)).toBe(0); // nothing has expired
    const gone: number[] = [];
    table.evict(2 * 64, 510, 100, 99, (metricId) => void gone.push(metricId)); // two rounds
    expect(gone.sort((a, b) => a - b)).toEqual(Array.from({ length: 28 }, (_, i) => 32 + i)); // the cold ones; the warm ones only lost heat
    for (let round = 0; round < 8; round++) table.evict(64, 510, 100, 99, nothing);
    expect(table.used).toBe(4);
    for (let key = 60; key < 64; key++) expect(table.find(key, key)).toBeGreaterThanOrEqual(0);
  });

  it('keeps every hot key through a storm of a million others', () => {
    const table = new KeyTable(65_536);
    const random = new Random(3);
    for (let key = 0; key < 20_000; key++) table.add(random.next() | 0, key, 1, 1);
    const hot: [number, number][] = [];
    table.forEach((at) => void hot.push([table.words[at]!, table.words[at + 1]!]));
    for (let i = 0; i < 1_000_000; i++) {
      const now = 1 + Math.floor(i / 5000); // 200 s
      if (!table.add(random.next() | 0, random.next() | 0, 2, now)) table.evict(64, now, 60, 1, nothing);
      const [lo, hi] = hot[i % hot.length]!; // each one every 4 s
      table.touch(table.find(lo, hi), now);
    }
    for (const [lo, hi] of hot) expect(table.find(lo, hi)).toBeGreaterThanOrEqual(0);
  });

  it('does not degrade with keys that collide in an unseeded FNV', () => {
    // Strings whose public FNV-1a 64 ends in twelve zero bits, and whose slot in a table that used it would be the same.
    const aimed: Buffer[] = [];
    const plain = new Hash64();
    for (let i = 0; aimed.length < 1000; i++) {
      const bytes = Buffer.from(i.toString(36));
      plain.set(0x84222325, 0xcbf29ce4).bytes(bytes, 0, bytes.length);
      if ((plain.lo & 0xfff) === 0) aimed.push(bytes);
    }
    const seeds = hashSeeds(12345);
    const table = new KeyTable(2048);
    const hash = new Hash64();
    for (const bytes of aimed) {
      hash.set(seeds.point.lo, seeds.point.hi).bytes(bytes, 0, bytes.length).mix();
      table.add(hash.lo, hash.hi, 0, 1);
    }
    expect(table.used).toBe(1000);
    expect(table.longestProbe()).toBeLessThan(24);
  });

  it('evicts the coldest and oldest keys first when its budget shrinks', () => {
    const table = new KeyTable(100);
    for (let key = 1; key <= 100; key++) table.add(key, key, 0, key);
    table.shrinkTo(30, nothing);
    expect(table.used).toBe(30);
    for (let key = 1; key <= 100; key++) expect(table.find(key, key) >= 0).toBe(key > 70);
  });
});
