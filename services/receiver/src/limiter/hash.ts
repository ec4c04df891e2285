/**
 * FNV-1a 64 on two 32-bit halves, without BigInt, and mixing functions.
 *
 * A key-set is hashed independently of order: every attribute is hashed by itself (FNV-1a over `key 0xFF type value`) and
 * mixed, and the mixed hashes are added as 64-bit numbers. Addition needs no sorting and lets a label be removed by
 * subtraction; unlike with XOR, two equal attributes do not cancel out. 0xFF never occurs in UTF-8, so no key can run into its
 * value. Every chain starts from a secret seed, so that collisions prepared for FNV's public offset basis do not work.
 *
 * FNV: http://www.isthe.com/chongo/tech/comp/fnv/ (prime 2^40 + 0x1b3).
 */

/** 64 bits as two int32. */
export interface Halves {
  readonly lo: number;
  readonly hi: number;
}

/** A reusable 64-bit result, to avoid allocations. */
export class Hash64 implements Halves {
  lo = 0;
  hi = 0;

  set(lo: number, hi: number): this {
    this.lo = lo | 0;
    this.hi = hi | 0;
    return this;
  }

  /** Continues FNV-1a with one byte. */
  byte(byte: number): this {
    const x = this.lo ^ byte;
    const low = Math.imul(x & 0xffff, 435);
    const high = Math.imul(x >>> 16, 435) + (low >>> 16);
    this.hi = (Math.imul(this.hi, 435) + (high >>> 16) + (x << 8)) | 0;
    this.lo = (high << 16) | (low & 0xffff);
    return this;
  }

  /** Continues FNV-1a with `bytes[from, to)`. */
  bytes(bytes: Uint8Array, from: number, to: number): this {
    let lo = this.lo;
    let hi = this.hi;
    for (let i = from; i < to; i++) {
      const x = lo ^ bytes[i]!;
      const low = Math.imul(x & 0xffff, 435);
      const high = Math.imul(x >>> 16, 435) + (low >>> 16);
      hi = (Math.imul(hi, 435) + (high >>> 16) + (x << 8)) | 0;
      lo = (high << 16) | (low & 0xffff);
    }
    this.lo = lo;
    this.hi = hi;
    return this;
  }

  /** Diffuses every bit over all others; a bijection, so that it adds no collisions. */
  mix(): this {
    const lo = Math.imul(this.lo ^ (this.hi >>> 16), 0x85ebca6b);
    const hi = Math.imul(this.hi ^ (lo >>> 13), 0xc2b2ae35);
    this.lo = Math.imul(lo ^ (hi >>> 16), 0x27d4eb2f);
    this.hi = hi ^ (this.lo >>> 15);
    return this;
  }

  /** Adds modulo 2^64. */
  add(lo: number, hi: number): this {
    const sum = (this.lo >>> 0) + (lo >>> 0);
    this.lo = sum | 0;
    this.hi = (this.hi + hi + (sum > 0xffffffff ? 1 : 0)) | 0;
    return this;
  }

  /** Subtracts modulo 2^64. */
  subtract(lo: number, hi: number): this {
    const borrow = this.lo >>> 0 < lo >>> 0 ? 1 : 0;
    this.lo = (this.lo - lo) | 0;
    this.hi = (this.hi - hi - borrow) | 0;
    return this;
  }
}

/** 32 bits of a label's key, from the state after `key 0xFF`. The kernel computes the same. */
export function keyHash32(lo: number, hi: number): number {
  const h = Math.imul(lo ^ (hi >>> 15), 0x9e3779b1);
  return h ^ (h >>> 15);
}

/** Start of a probe; FNV's low bits alone are too regular for linear probing. */
export function slotHash(lo: number, hi: number): number {
  const h = Math.imul(lo ^ ((hi << 13) | (hi >>> 19)), 0x9e3779b1);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The offset bases: one per place where a label may be, so that places never mix. */
export type HashSeeds = Readonly<Record<'resource' | 'scope' | 'metric' | 'point', Halves>>;

/** @param seed Seed of all hashes. Use a random secret in production, so that nobody can craft collisions */
export function hashSeeds(seed: number): HashSeeds {
  const random = new Random(seed);
  const halves = () => ({ lo: random.next() | 0, hi: random.next() | 0 });
  return { resource: halves(), scope: halves(), metric: halves(), point: halves() };
}

/** Xorshift128 seeded by splitmix32: fast, reproducible; its output is never visible to attackers. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = (Math.floor(seed) ^ Math.floor(seed / 4294967296)) | 0;
    const split = () => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    };
    this.#a = split();
    this.#b = split();
    this.#c = split();
    this.#d = split() | 1; // all zero would stay zero
  }

  /** 32 random bits, unsigned. */
  next(): number {
    const t = this.#a ^ (this.#a << 11);
    this.#a = this.#b;
    this.#b = this.#c;
    this.#c = this.#d;
    this.#d = this.#d ^ (this.#d >>> 19) ^ (t ^ (t >>> 8));
    return this.#d >>> 0;
  }

  /** In (0, 1), never 0. */
  fraction(): number {
    return (this.next() + 0.5) / 4294967296;
  }
}

const NOTHING = Buffer.alloc(0);

/** Words, low and high in turn, as bytes. */
export function packed(words: readonly number[]): Buffer {
  if (words.length === 0) return NOTHING;
  const bytes = Buffer.allocUnsafe(words.length * 4);
  for (let i = 0; i < words.length; i++) bytes.writeInt32LE(words[i]!, i * 4);
  return bytes;
}
