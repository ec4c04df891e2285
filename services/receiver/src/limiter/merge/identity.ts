import { Hash64, type HashSeeds, keyHash32 } from '../hash.ts';
import { AttributeHash, hashAttribute } from '../wire/attributes.ts';

/** The attribute that distinguishes cumulative streams merged by different receivers, since a stream has one writer. */
export const WRITER_LABEL = 'nrdot.writer';

/** A KeyValue with a text, without its tag. */
function keyValue(key: string, value: string): Buffer {
  const keyBytes = Buffer.from(key);
  const valueBytes = Buffer.from(value);
  return Buffer.concat([
    Buffer.from([0x0a, keyBytes.length]),
    keyBytes,
    Buffer.from([0x12, valueBytes.length + 2, 0x0a, valueBytes.length]),
    valueBytes,
  ]);
}

/** Identifies a writer in the streams that it writes. */
export class WriterIdentity {
  /** The KeyValue, without its tag. */
  readonly attribute: Buffer;
  /** Its contribution to the hash of a stream. */
  readonly lo: number;
  readonly hi: number;

  /** @param slot at most the number of receivers, which bounds the number of streams */
  constructor(slot: number, { pointLo, pointHi }: HashSeeds) {
    this.attribute = keyValue(WRITER_LABEL, String(slot));
    const hash = new AttributeHash();
    hashAttribute(this.attribute, 0, this.attribute.length, pointLo, pointHi, hash);
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The hash of a label's key, as scans record it. */
export function labelHash(key: Uint8Array, place: 'point' | 'resource', seeds: HashSeeds): number {
  const { pointLo, pointHi, resourceLo, resourceHi } = seeds;
  const hash = new Hash64();
  if (place === 'point') hash.set(pointLo, pointHi);
  else hash.set(resourceLo, resourceHi);
  hash.bytes(key, 0, key.length).byte(0xff);
  return keyHash32(hash.lo, hash.hi);
}
