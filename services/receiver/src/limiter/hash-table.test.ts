import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HashTable } from './hash-table.ts';

const KEYS = 40;
const MAX = 24;
const STRIDE = 3;

describe('HashTable', () => {
  it('agrees with a Map for any lookups, in any order, with any hint', () => {
    const op = fc.record({
      do: fc.constantFrom('insert', 'insert', 'remove', 'find', 'next'),
      key: fc.nat(KEYS - 1),
      hint: fc.constantFrom('none', 'last', 'other'),
    });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 300 }), (ops) => {
        const table = new HashTable(MAX, STRIDE);
        const model = new Map<number, number>();
        const seenAt = new Map<number, number>(); // where keys are, or were when they were there
        // Few hashes start at different slots, and key 0 is all zero, as a place that is free.
        const find = (key: number, hint = -1) => table.find(key & 3, key >> 2, hint);
        let previous = 0;
        for (const { do: action, key: drawn, hint } of ops) {
          const key = action === 'next' ? (previous + 1) % KEYS : drawn;
          previous = key;
          const hinted = hint === 'none' ? -1 : (seenAt.get(hint === 'last' ? key : drawn ^ 1) ?? -1);
          const at = find(key, hinted);
          expect(at).toBe(model.get(key) ?? -1);
          if (action === 'insert' && at < 0) {
            const made = table.insert(key & 3, key >> 2);
            expect(made >= 0).toBe(model.size < MAX);
            if (made < 0) continue;
            table.words[made + 2] = 1;
            model.set(key, made);
            seenAt.set(key, made);
          } else if (action === 'remove' && at >= 0) {
            table.remove(at);
            model.delete(key);
          }
        }
        expect(table.used).toBe(model.size);
        for (let key = 0; key < KEYS; key++) expect(find(key)).toBe(model.get(key) ?? -1);
      }),
      { numRuns: 500 },
    );
  });

  it('reuses freed slots, the longest free first, so that neighbours stay neighbours', () => {
    const table = new HashTable(4, STRIDE);
    const insert = (key: number) => {
      const at = table.insert(key, key);
      table.words[at + 2] = 1;
      return at / STRIDE;
    };
    expect([1, 2, 3, 4].map(insert)).toEqual([0, 1, 2, 3]);
    for (const key of [2, 3, 1]) table.remove(table.find(key, key));
    expect([5, 6, 7].map(insert)).toEqual([1, 2, 0]);
    expect(table.insert(8, 8)).toBe(-1);
  });
});
