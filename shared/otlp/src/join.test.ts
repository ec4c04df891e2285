import { expect, it, vi } from 'vitest';
import { Chunks, joinInTurns } from './join.ts';

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

it('a body that comes byte by byte takes a few buffers, not one for each', async () => {
  const body = new Chunks();
  expect(await body.join()).toHaveLength(0);
  const sent = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
  const spy = vi.spyOn(Buffer, 'allocUnsafe');
  for (let i = 0; i < sent.length; i++) body.add(sent.subarray(i, i + 1));
  expect(spy.mock.calls.length).toBeLessThan(100);
  spy.mockRestore();
  expect((await body.join()).equals(sent)).toBe(true);
  expect(sent[0]).toBe(0); // a chunk is not written to
});

it('a body of one chunk is that chunk', async () => {
  const body = new Chunks();
  const chunk = Buffer.from('answer');
  body.add(chunk);
  expect(await body.join()).toBe(chunk);
  body.add(Buffer.from(' and more'));
  expect((await body.join()).toString()).toBe('answer and more');
  expect(chunk.toString()).toBe('answer');
});
