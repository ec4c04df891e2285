import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Hash64, Random } from './hash.ts';

const MASK = (1n << 64n) - 1n;
const value = (h: Hash64) => (BigInt(h.hi >>> 0) << 32n) | BigInt(h.lo >>> 0);

function fnv1a64(bytes: Uint8Array, basis: bigint): bigint {
  let h = basis;
  for (const byte of bytes) h = ((h ^ BigInt(byte)) * 0x100000001b3n) & MASK;
  return h;
}

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

describe('FNV-1a 64 on halves', () => {
  it('yields the published values', () => {
    const basis = () => new Hash64().set(0x84222325, 0xcbf29ce4);
    expect(value(basis())).toBe(0xcbf29ce484222325n);
    expect(value(basis().byte(0x61))).toBe(0xaf63dc4c8601ec8cn);
    expect(value(basis().bytes(Buffer.from('foobar'), 0, 6))).toBe(0x85944171f73967e8n);
  });

  it('equals the BigInt definition for any bytes and basis', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), int32, int32, (bytes, lo, hi) => {
        const hash = new Hash64().set(lo, hi);
        const expected = fnv1a64(bytes, value(hash));
        expect(value(hash.bytes(bytes, 0, bytes.length))).toBe(expected);
      }),
    );
  });

  it('adds and subtracts modulo 2^64, so that a label can be removed again', () => {
    fc.assert(
      fc.property(int32, int32, int32, int32, (aLo, aHi, bLo, bHi) => {
        const hash = new Hash64().set(aLo, aHi);
        const a = value(hash);
        const b = value(new Hash64().set(bLo, bHi));
        expect(value(hash.add(bLo, bHi))).toBe((a + b) & MASK);
        expect(value(hash.subtract(bLo, bHi))).toBe(a);
      }),
    );
  });

  it('mixes well: one bit changes about half of all others', () => {
    const random = new Random(1);
    let changed = 0;
    const rounds = 2000;
    for (let i = 0; i < rounds; i++) {
      const lo = random.next();
      const hi = random.next();
      const bit = random.next() % 64;
      const a = value(new Hash64().set(lo, hi).mix());
      const b = value(
        new Hash64().set(bit < 32 ? lo ^ (1 << bit) : lo, bit < 32 ? hi : hi ^ (1 << (bit - 32))).mix(),
      );
      for (let x = a ^ b; x > 0n; x >>= 1n) changed += Number(x & 1n);
    }
    expect(changed / rounds).toBeGreaterThan(28);
    expect(changed / rounds).toBeLessThan(36);
  });
});
