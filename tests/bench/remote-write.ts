/** Prometheus remote write 1.0, as far as counting its samples goes: protobuf in a snappy block. */
import { each } from '../testbed/src/item-reader.ts';

/** Fields of prometheus.WriteRequest and of its TimeSeries. */
const TIME_SERIES = 1;
const SAMPLES = 2;

/** Samples in a request. @throws when the bytes end too early */
export function samplesIn(request: Buffer): number {
  let samples = 0;
  each(request, 0, request.byteLength, (field, start, end) => {
    if (field !== TIME_SERIES) return;
    each(request, start, end, (inner) => {
      if (inner === SAMPLES) samples += 1;
    });
  });
  return samples;
}

/**
 * Decompresses a snappy block (https://github.com/google/snappy/blob/main/format_description.txt).
 * @throws RangeError for a copy from before the beginning, or more output than the block says
 */
export function unsnappy(block: Buffer): Buffer {
  let at = 0;
  let size = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = block[at++] ?? 0;
    size += (byte & 127) * 2 ** shift;
    if (byte < 128) break;
  }
  const out = Buffer.allocUnsafe(size);
  let written = 0;
  while (at < block.length) {
    const tag = block[at++]!;
    const kind = tag & 3;
    if (kind === 0) {
      let length = tag >> 2;
      if (length >= 60) {
        const bytes = length - 59;
        length = block.readUIntLE(at, bytes);
        at += bytes;
      }
      length += 1;
      written += block.copy(out, written, at, at + length);
      at += length;
      continue;
    }
    const length = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    let offset: number;
    if (kind === 1) offset = ((tag >> 5) << 8) | block[at++]!;
    else {
      const bytes = kind === 2 ? 2 : 4;
      offset = block.readUIntLE(at, bytes);
      at += bytes;
    }
    if (offset === 0 || offset > written || written + length > size) {
      throw new RangeError(
        `snappy: a copy of ${length} bytes from ${offset} before byte ${written} of ${size}`,
      );
    }
    // Byte by byte: a copy may overlap what it writes.
    for (let i = 0; i < length; i++) out[written + i] = out[written - offset + i]!;
    written += length;
  }
  if (written !== size) throw new RangeError(`snappy: ${written} bytes where the block says ${size}`);
  return out;
}
