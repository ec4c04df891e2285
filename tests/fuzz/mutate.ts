/** Bytes made wrong in the ways that find faults: bits, lengths, pieces cut, doubled, mixed. */

export type Random = () => number;

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff];
const MAX_BYTES = 64 * 1024;

export function mutate(seed: Buffer, other: Buffer, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(seed);
  for (let n = 1 + Math.floor(random() * 6); n > 0; n--) bytes = once(bytes, other, random);
  return bytes.subarray(0, MAX_BYTES);
}

function once(bytes: Buffer, other: Buffer, random: Random): Buffer {
  const whole = (below: number) => Math.floor(random() * Math.max(1, below));
  if (bytes.byteLength === 0) return Buffer.from([whole(256)]);
  const at = whole(bytes.byteLength);
  const length = whole(Math.min(64, bytes.byteLength - at));
  switch (whole(7)) {
    case 0:
      bytes[at]! ^= 1 << whole(8);
      return bytes;
    case 1:
      bytes[at] = INTERESTING[whole(INTERESTING.length)]!;
      return bytes;
    case 2:
      return bytes.subarray(0, at);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 5: {
      const from = whole(other.byteLength);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + 256), bytes.subarray(at)]);
    }
    default:
      bytes.fill(0xff, at, Math.min(bytes.byteLength, at + 1 + whole(9))); // long varints
      return bytes;
  }
}
