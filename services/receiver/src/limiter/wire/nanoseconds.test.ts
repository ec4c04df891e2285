import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Nanoseconds } from './nanoseconds.ts';

const whole = ({ lo, hi }: Nanoseconds) => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

it('converts milliseconds exactly, in both directions', () => {
  const longest = Math.floor(2 ** 64 / 1e6);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: longest }), (ms) => {
      const time = new Nanoseconds().setMs(ms);
      expect(whole(time)).toBe(BigInt(ms) * 1_000_000n);
      expect(time.ms).toBe(ms);
    }),
  );
});

it('rounds down to milliseconds', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (ns) => {
      const time = new Nanoseconds().set(Number(BigInt.asIntN(32, ns)), Number(BigInt.asIntN(32, ns >> 32n)));
      expect(time.ms).toBe(Number(ns / 1_000_000n));
    }),
    { examples: [[999_999n], [1_999_999n], [2n ** 64n - 1n], [1_700_000_000_000_999_999n]] },
  );
});
