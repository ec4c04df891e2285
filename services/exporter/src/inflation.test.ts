import { gzipSync } from 'node:zlib';
import { Inflation } from '@nrdot/otlp';
import { expect, it } from 'vitest';
import { exported } from '../test/exporter.ts';

const MIB = 2 ** 20;
const LIMITS = { maxBytes: 64 * MIB };
const zeros = (bytes: number) => gzipSync(Buffer.alloc(bytes));

it('an upstream that takes no gzip gets no more decompressed bytes at once than exporter.inflight_bytes', async () => {
  const sending = { bytes: 0, most: 0 };
  const send = async ({ byteLength }: Buffer) => {
    sending.bytes += byteLength;
    sending.most = Math.max(sending.most, sending.bytes);
    await new Promise((resolve) => setTimeout(resolve, 20));
    sending.bytes -= byteLength;
    return { kind: 'delivered', refusedItems: 0, message: '' } as const;
  };
  await exported(Array(12).fill(zeros(4 * MIB)), 'gzip', send, { compression: 'none' });
  expect(sending.most).toBe(8 * MIB);
});

it('jobs that are larger than they say, or than the limit, wait until there is room, and all get it', async () => {
  const inflation = new Inflation(8 * MIB);
  // Of several members, a body says the size of the last.
  const liar = Buffer.concat([zeros(6 * MIB), zeros(1)]);
  const jobs = [
    [zeros(3 * MIB), zeros(3 * MIB)],
    [liar],
    [zeros(20 * MIB)],
    [liar],
    [zeros(MIB)],
    [liar, liar],
  ];
  const held = { bytes: 0, jobs: 0 };
  await Promise.all(
    jobs.map(async (job) => {
      const { byteLength } = await inflation.decode(job, 'gzip', LIMITS);
      held.bytes += byteLength;
      held.jobs++;
      expect(held.bytes <= 8 * MIB || held.jobs === 1).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 5));
      // Once more, as when it is split: at once.
      expect((await inflation.decode(job, 'gzip', LIMITS)).byteLength).toBe(byteLength);
      held.bytes -= byteLength;
      held.jobs--;
      inflation.release(job);
    }),
  );
  expect(inflation.usedBytes).toBe(0);
});

it('what cannot be decompressed holds nothing', async () => {
  const inflation = new Inflation(MIB);
  const job = [Buffer.from('no gzip')];
  await expect(inflation.decode(job, 'gzip', LIMITS)).rejects.toThrow(/not valid gzip/);
  inflation.release(job);
  expect((await inflation.decode([zeros(2 * MIB)], 'gzip', LIMITS)).byteLength).toBe(2 * MIB);
});
