/** Requests whose spans are named, so that what arrives can be told apart. */

/** An `ExportTraceServiceRequest` with one span for each name. */
export function requestOf(names: readonly string[]): Buffer {
  const spans = names.map((name) =>
    field(2, Buffer.concat([field(1, TRACE_ID), field(2, SPAN_ID), field(5, Buffer.from(`${name};`))])),
  );
  return field(1, field(2, Buffer.concat(spans)));
}

/** The names in one request or in several that were concatenated. */
export function namesIn(bytes: Buffer): string[] {
  return [...bytes.toString('latin1').matchAll(/(i\d+);/g)].map((found) => found[1]!);
}

const TRACE_ID = Buffer.alloc(16, 1);
const SPAN_ID = Buffer.alloc(8, 2);

function field(number: number, bytes: Buffer): Buffer {
  const length = bytes.byteLength;
  const varint = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...varint]), bytes]);
}
