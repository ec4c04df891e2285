import { expect, test } from 'vitest';
import { samplesIn, unsnappy } from './remote-write.ts';

/** Series "a" with two samples and series "b" with one: labels in field 1, samples in field 2. */
const label = [0x0a, 0x02, 0x0a, 0x00];
const sample = [0x12, 0x02, 0x10, 0x01];
const request = [0x0a, 12, ...label, ...sample, ...sample, 0x0a, 8, ...label, ...sample];

test('counts the samples of a remote-write request in a snappy block with literals and copies', () => {
  // The first 10 bytes as they are; then 4 from 4 back, which is the second sample; then the rest as it is.
  const block = [
    request.length,
    (10 - 1) << 2,
    ...request.slice(0, 10),
    1,
    4,
    (10 - 1) << 2,
    ...request.slice(14),
  ];
  const body = unsnappy(Buffer.from(block));
  expect([...body]).toEqual(request);
  expect(samplesIn(body)).toBe(3);
});

test('a copy may overlap what it writes', () => {
  expect(unsnappy(Buffer.from([7, 0, 0x61, (6 - 1) * 4 + 2, 1, 0])).toString()).toBe('aaaaaaa');
});

test('refuses a copy from before the beginning and a size that is not met', () => {
  expect(() => unsnappy(Buffer.from([7, 0, 0x61, (6 - 1) * 4 + 2, 2, 0]))).toThrow(/snappy: a copy/);
  expect(() => unsnappy(Buffer.from([9, 0, 0x61]))).toThrow(/1 bytes where the block says 9/);
});
