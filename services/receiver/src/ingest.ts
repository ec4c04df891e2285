import {
  type BodyFormat,
  type ContentEncoding,
  decodeContent,
  jsonToProtobuf,
  OtlpError,
  type Signal,
  walk,
} from '@nrdot/otlp';
import { type Batch, type EnqueueResult, newBatchId, type PriorityClass } from '@nrdot/queue';
import type { Reservation } from './body.ts';

const UNAVAILABLE = 14;

export interface IngestLimits {
  maxBodyBytes: number;
  maxDepth: number;
}

export interface IngestDeps {
  /** Durable when it resolves. */
  enqueue(batch: Batch): Promise<EnqueueResult>;
  /** The class of a whole request. `body` is protobuf, validated. */
  classify(signal: Signal, body: Uint8Array): PriorityClass;
  now(): number;
}

export interface IngestRequest {
  signal: Signal;
  format: BodyFormat;
  encoding: ContentEncoding;
  /** As it came over the wire. */
  wire: Buffer;
  reservation: Reservation;
}

export interface Ingested {
  items: number;
  /** Bytes after decompression. */
  bodyBytes: number;
}

/**
 * The way of one request, from wire bytes to acknowledged: decompress, turn JSON into protobuf, validate and count,
 * classify, enqueue. When it resolves, the batch is durable.
 * @throws OtlpError with the answer for the client; nothing was kept
 */
export async function ingest(
  request: IngestRequest,
  limits: IngestLimits,
  deps: IngestDeps,
): Promise<Ingested> {
  const { signal, format, encoding, wire, reservation } = request;
  if (wire.byteLength === 0) return { items: 0, bodyBytes: 0 };

  const decoded = await decodeContent(wire, encoding, { maxBytes: limits.maxBodyBytes });
  if (decoded !== wire) reservation.reserve(decoded.byteLength);
  const body = format === 'json' ? jsonToProtobuf(signal, decoded, { maxDepth: limits.maxDepth }) : decoded;
  if (body !== decoded) reservation.reserve(body.byteLength);

  const { items } = walk(signal, body, { maxDepth: limits.maxDepth });
  if (items === 0) return { items, bodyBytes: decoded.byteLength };

  // What nothing changed keeps the compressed bytes it came in. Few backends read deflate: that goes on plain.
  const untouched = body === decoded && encoding !== 'deflate';
  const receivedAt = deps.now();
  const result = await enqueueOrRefuse(deps, {
    id: newBatchId(receivedAt),
    signal,
    class: deps.classify(signal, body),
    origin: 'live',
    encoding: untouched ? encoding : 'identity',
    items,
    receivedAt,
    payload: untouched ? wire : body,
  });
  if (result === 'full') {
    throw unavailable('queue_full', 'the queue is at its capacity (queue.max_bytes, queue.max_items)');
  }
  if (result === 'lost') throw unavailable('not_kept', 'the batch could not be kept');
  return { items, bodyBytes: decoded.byteLength };
}

async function enqueueOrRefuse(deps: IngestDeps, batch: Batch): Promise<EnqueueResult> {
  try {
    return await deps.enqueue(batch);
  } catch (error) {
    const message = (error as Error).message;
    if (message.startsWith('OOM')) throw unavailable('redis_full', 'Redis is out of memory');
    throw unavailable('redis_unavailable', 'Redis cannot be reached');
  }
}

function unavailable(code: string, why: string): OtlpError {
  return new OtlpError({
    code,
    httpStatus: 503,
    grpcCode: UNAVAILABLE,
    message: `${why}; nothing of this request was kept, try again later`,
  });
}
