/** Stands in for the compressor, whose threads no seed can govern. What it wraps is recognised, as zstd does. */
const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

export async function compress(bytes: Buffer): Promise<Buffer> {
  return Buffer.concat([MAGIC, bytes]);
}

export async function decompress(bytes: Buffer): Promise<Buffer> {
  if (!bytes.subarray(0, 4).equals(MAGIC)) throw new Error('not compressed');
  return bytes.subarray(4);
}
