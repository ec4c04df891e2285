import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { walk } from '@nrdot/otlp';
import { afterAll, expect, it } from 'vitest';
import { Divider, type Part } from './divider.ts';

const divider = new Divider();
afterAll(() => divider.stop());

const LOG_RECORDS = 0x12;
const SEVERITY = 0x10;
const field = (number: number, content: Buffer): Buffer => {
  const head = Buffer.alloc(6, 0x80);
  head[0] = number * 8 + 2;
  for (let i = 1, rest = content.byteLength; i < 6; i++, rest = Math.floor(rest / 128))
    head[i] = (rest % 128) | (i < 5 ? 0x80 : 0);
  return Buffer.concat([head, content]);
};
/** So many log records of four bytes. */
const logs = (records: number) =>
  field(1, field(2, Buffer.alloc(4 * records, Buffer.from([LOG_RECORDS, 2, SEVERITY, 1]))));

/** Items of all parts, which are requests by themselves. */
const itemsOf = (parts: readonly Part[]) =>
  parts.map(({ bytes, items }) => {
    expect(walk('logs', gunzipSync(bytes)).items).toBe(items);
    return items;
  });
const sum = (items: readonly number[]) => items.reduce((all, each) => all + each, 0);

it.each([
  ['a small request', 1_000],
  ['a large one', 500_000],
])('divides %s into parts that fit, or into halves', async (_what, records) => {
  const plain = logs(records);
  const maxBytes = Math.ceil(plain.byteLength / 5);
  const parts = await divider.divide({ signal: 'logs', plain, encoding: 'gzip', maxBytes });
  expect(sum(itemsOf(parts))).toBe(records);
  expect(parts.length).toBeLessThan(8);
  for (const { bytes } of parts) expect(gunzipSync(bytes).byteLength).toBeLessThanOrEqual(maxBytes);
  const halves = await divider.divide({ signal: 'logs', plain, encoding: 'gzip', maxBytes: undefined });
  expect(itemsOf(halves)).toEqual([records / 2, records / 2]);
});

it('divides nothing whose copies of what describes it would be many times as large', async () => {
  const resource = field(1, field(1, field(1, Buffer.alloc(10_000, 'x'))));
  const plain = field(1, Buffer.concat([resource, logs(1_000).subarray(6)]));
  expect(await divider.divide({ signal: 'logs', plain, encoding: 'gzip', maxBytes: 1_000 })).toEqual([]);
});

it('leaves the event loop to others meanwhile', async () => {
  let turns = 0;
  let isOver = false;
  const count = (async () => {
    for (; !isOver; await turn()) turns++;
  })();
  await divider.divide({ signal: 'logs', plain: logs(500_000), encoding: 'identity', maxBytes: 100_000 });
  isOver = true;
  await count;
  expect(turns).toBeGreaterThan(10);
});

it('says when there is nothing to divide', async () => {
  for (const maxBytes of [10, undefined])
    expect(
      (await divider.divide({ signal: 'logs', plain: logs(1), encoding: 'identity', maxBytes })).length,
    ).toBeLessThan(2);
});
