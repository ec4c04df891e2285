import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena, BLOCK_MAX, sameSize } from './arena.ts';

const CELLS = 2_048;

/** Takes blocks of one length until there is no room. */
function fill(arena: Arena, length: number): { at: number; length: number }[] {
  const blocks: { at: number; length: number }[] = [];
  for (let at = arena.take(length); at !== 0; at = arena.take(length)) {
    blocks.push({ at, length });
    expect(blocks.length * length).toBeLessThanOrEqual(arena.cells.length);
  }
  return blocks;
}

describe('Arena', () => {
  it('reuses freed space for blocks of any size', () => {
    const fresh = fill(new Arena(16_384), 22).length;
    const arena = new Arena(16_384);
    for (const length of [14, 22, 9, 170, 512, 1, 40, 22]) {
      const blocks = fill(arena, length);
      // Not in the order in which they were taken.
      for (let i = 0; i < blocks.length; i += 2) arena.give(blocks[i]!.at, length);
      for (let i = 1; i < blocks.length; i += 2) arena.give(blocks[i]!.at, length);
      expect(arena.usedCells).toBe(0);
    }
    expect(fill(arena, 22)).toHaveLength(fresh);
    expect(fresh).toBeGreaterThan(16_384 / 26);
  });

  it('has free space next to blocks that stay', () => {
    const arena = new Arena(CELLS);
    const blocks = fill(arena, 14);
    const stay = blocks[blocks.length >> 1]!;
    for (const { at, length } of blocks) if (at !== stay.at) arena.give(at, length);
    const free = CELLS - arena.usedCells;
    expect(fill(arena, 22).length).toBeGreaterThanOrEqual(Math.floor(free / 24) - 2);
  });

  it('never allocates a cell twice, leaks none, and is empty again at the end: against a plain map', () => {
    const length = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: BLOCK_MAX }));
    const step = fc.oneof(
      { weight: 3, arbitrary: length.map((take) => ({ take })) },
      { weight: 2, arbitrary: fc.nat().map((give) => ({ give })) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const arena = new Arena(CELLS);
        const model = new Map<number, number>(); // where it begins → as it was asked for
        const owner = new Map<number, number>(); // cell → block
        const drop = (at: number) => {
          const length = model.get(at)!;
          for (let i = 0; i < length; i++) expect(arena.cells[at + i]).toBe(at);
          arena.give(at, length);
          model.delete(at);
          for (let i = 0; i < length; i++) owner.delete(at + i);
        };
        for (const one of steps) {
          if ('take' in one) {
            const at = arena.take(one.take);
            if (at === 0) continue;
            expect(at + one.take).toBeLessThanOrEqual(CELLS);
            model.set(at, one.take);
            for (let i = 0; i < one.take; i++) {
              expect(owner.has(at + i)).toBe(false);
              owner.set(at + i, at);
              arena.cells[at + i] = at;
            }
          } else if (model.size > 0) drop([...model.keys()][one.give % model.size]!);
          expect(arena.usedCells).toBeGreaterThanOrEqual(owner.size);
          expect(arena.usedCells).toBeLessThanOrEqual(CELLS);
        }
        for (const at of [...model.keys()]) drop(at);
        expect(arena.usedCells).toBe(0);
        // All of it is one piece again.
        const all = fill(new Arena(CELLS), BLOCK_MAX).length;
        expect(fill(arena, BLOCK_MAX)).toHaveLength(all);
      }),
      { numRuns: 300 },
    );
  });

  it('is deterministic', () => {
    const play = () => {
      const arena = new Arena(CELLS);
      const blocks = fill(arena, 10);
      for (let i = 0; i < blocks.length; i += 3) arena.give(blocks[i]!.at, 10);
      return [fill(arena, 6), fill(arena, 20), fill(arena, 3)];
    };
    expect(play()).toEqual(play());
  });

  it('rejects blocks that are too large, and says whether two lengths fit the same block', () => {
    const arena = new Arena(CELLS);
    expect(arena.take(BLOCK_MAX + 1)).toBe(0);
    expect(arena.take(BLOCK_MAX)).toBeGreaterThan(0);
    expect(sameSize(9, 12)).toBe(true);
    expect(sameSize(12, 13)).toBe(false);
    for (let length = 1; length <= BLOCK_MAX; length++) {
      const one = new Arena(CELLS);
      one.take(length);
      expect(one.usedCells).toBeGreaterThanOrEqual(length);
      // Whole units, and then an eighth too much at most.
      expect(one.usedCells).toBeLessThanOrEqual(Math.max(8, (length + 3) * 1.125));
    }
  });
});
