import { sameSecret } from '@nrdot/service';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Kept, post, startReceiver } from './receiver.ts';

const TOKEN = 'the-right-token';
let receiver: Kept;
beforeAll(async () => {
  receiver = await startReceiver({ tokens: ['another', TOKEN] });
});
afterAll(() => receiver.stop());

it('accepts only the right token, however similar another is', async () => {
  const status = async (authorization: string) => (await post(receiver.url, { authorization })).status;
  expect(await status(`Bearer ${TOKEN}`)).toBe(200);
  const wrong = [
    '',
    'Bearer',
    'Bearer ',
    TOKEN,
    `Basic ${TOKEN}`,
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(0, -1)}`,
  ];
  for (const given of [
    ...wrong,
    `Bearer ${TOKEN.toUpperCase()}`,
    `Bearer ${TOKEN},another`,
    'Bearer undefined',
    'Bearer *',
  ])
    expect(await status(given), given).toBe(401);
});

it('refuses a token of maximum header size without reading the body, and a longer one before that', async () => {
  const before = receiver.batches.length;
  expect((await post(receiver.url, { authorization: `Bearer ${'x'.repeat(15_000)}` })).status).toBe(401);
  expect((await post(receiver.url, { authorization: `Bearer ${'x'.repeat(40_000)}` })).status).toBe(431);
  expect(receiver.batches.length).toBe(before);
});

it('compares digests of equal length, so the comparison does not depend on the length of the secret', () => {
  // The time itself is not asserted: timingSafeEqual throws for lengths that differ, and it never does.
  const long = 'x'.repeat(1_000_000);
  expect([
    sameSecret(long, 'x'),
    sameSecret('', long),
    sameSecret(long, long),
    sameSecret('ä', 'a\u0308'),
  ]).toEqual([false, false, true, false]);
});
