import { Hash64, type HashSeeds, keyHash32 } from '../hash.ts';
import { AttributeHash, hashAttribute } from '../wire/attributes.ts';

/** The attribute that distinguishes cumulative streams merged by different receivers, since a stream has one writer. */
export const WRITER_LABEL = 'nrdot.writer';

/** A text of less than 128 bytes in field 1, with its tag. */
const text = (value: string) => Buffer.from([0x0a, Buffer.byteLength(value), ...Buffer.from(value)]);

/** Identifies a writer in the streams that it writes. */
export class WriterIdentity {
  /** The KeyValue, without its tag. */
  readonly attribute: Buffer;
  /** Its contribution to the hash of a stream. */
  readonly lo: number;
  readonly hi: number;

  /** @param slot at most the number of receivers, which bounds the number of streams */
  constructor(slot: number, seeds: HashSeeds) {
    const value = text(String(slot));
    this.attribute = Buffer.concat([text(WRITER_LABEL), Buffer.from([0x12, value.length]), value]);
    const hash = new AttributeHash();
    hashAttribute(this.attribute, 0, this.attribute.length, seeds.point, hash);
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The hash of a label's key, as scans record it. */
export function labelHash(key: Uint8Array, place: 'point' | 'resource', seeds: HashSeeds): number {
  const seed = seeds[place];
  const hash = new Hash64().set(seed.lo, seed.hi).bytes(key, 0, key.length).byte(0xff);
  return keyHash32(hash.lo, hash.hi);
}
