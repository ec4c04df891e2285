import { expect, it } from 'vitest';
import { joinInTurns } from './join.ts';

const MIB = 2 ** 20;

it.each([
  ['nothing', []],
  ['small parts', [3, 0, 5]],
  ['parts that end where a turn ends, and beyond', [4 * MIB, 1, 4 * MIB - 1, 9 * MIB]],
])('joins %s', async (_, sizes) => {
  const parts = sizes.map((size, i) => Buffer.alloc(size, `${i}-of-these `));
  const joined = await joinInTurns(parts);
  expect(joined.equals(Buffer.concat(parts))).toBe(true);
  expect(joined.buffer.byteLength).toBe(joined.byteLength);
});

it('yields after each 4 MiB, however the parts are cut', async () => {
  const turns = async (parts: Buffer[]) => {
    let count = 0;
    let isOver = false;
    const look = () => {
      if (isOver) return;
      count++;
      setImmediate(look);
    };
    setImmediate(look);
    await joinInTurns(parts);
    isOver = true;
    return count;
  };
  expect(await turns([Buffer.alloc(40 * MIB)])).toBeGreaterThanOrEqual(9);
  expect(await turns(Array.from({ length: 40 * 16 }, () => Buffer.alloc(MIB / 16)))).toBeGreaterThanOrEqual(
    9,
  );
});

it('copies a borrowed part before it returns', async () => {
  const borrowed = Buffer.from('as it was');
  const joining = joinInTurns([borrowed]);
  borrowed.fill('x');
  expect(String(await joining)).toBe('as it was');
});
