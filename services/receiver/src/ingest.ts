import {
  type BodyFormat,
  borrowContent,
  type ContentEncoding,
  GRPC,
  OtlpError,
  oversized,
  type PartialSuccess,
  type Signal,
  walk,
} from '@nrdot/otlp';
import {
  type Batch,
  type EnqueueResult,
  NotReplicated,
  NotSent,
  newBatchId,
  type PriorityClass,
} from '@nrdot/queue';
import type { Reservation } from './body.ts';
import type { Classified } from './classifier/classifier.ts';
import { classifyPieces, isLarge, type LargeRequests, limitPieces } from './large-request.ts';
import { type SoundOptions, soundProtobuf } from './sound.ts';
import type { Tap } from './tap/tap.ts';

export interface QueueCapacity {
  bytes: number;
  items: number;
}

export interface IngestLimits extends SoundOptions {
  maxBodyBytes: number;
  queue?: QueueCapacity | undefined;
}

export interface IngestDeps {
  /** Durable when it resolves, but for those that it says it has no memory for. */
  enqueue(batches: readonly Batch[]): Promise<EnqueueResult[]>;
  /** Where a batch goes when Redis can't take it; undefined when there is no such place. Durable when it resolves. */
  store: ((batch: Batch) => Promise<void>) | undefined;
  /** Holds the cardinality of metrics; undefined when it is off. `body` is protobuf, validated. */
  limit: ((body: Buffer) => Limited) | undefined;
  /** The parts of a request by class. `body` is protobuf, validated. */
  classify(signal: Signal, body: Buffer): Classified[];
  /** Reads what is too large to be read here; without it everything is. */
  large?: LargeRequests;
  /** Shows people what was acknowledged, while one looks. */
  tap?: Pick<Tap, 'open' | 'offer'>;
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

/** What the limiter made of a request. */
export interface Limited {
  /** The very body that came, when nothing changed. */
  body: Buffer;
  /** Points that were dropped, and why, in words for the client. */
  dropped: number;
  message: string;
  /** Counts what was done to it. Only what is acknowledged counts: what is refused is sent, and limited, again. */
  count(): void;
}

export interface Ingested {
  /** Acknowledged: in the queue or on disk. */
  items: number;
  /** What was left out or mended, when anything was. */
  partial?: PartialSuccess;
  /** Bytes after decompression. */
  bodyBytes: number;
}

/**
 * The way of one request, from wire bytes to acknowledged: decompress, turn JSON into protobuf, validate and count,
 * classify, enqueue. When it resolves, the batch is durable.
 * @throws OtlpError with the answer for the client; it says whether some of the request may have been kept all the same
 */
export async function ingest(
  request: IngestRequest,
  limits: IngestLimits,
  deps: IngestDeps,
): Promise<Ingested> {
  const { signal, encoding, wire, reservation } = request;
  if (wire.byteLength === 0) return { items: 0, bodyBytes: 0 };

  // Borrowed: until the next `await` it is ours. A payload is never a view of it: gzip goes on as it came, and what
  // was changed was written anew. So no `await` where there is nothing to wait for.
  const decoding = borrowContent(wire, encoding, {
    maxBytes: limits.maxBodyBytes,
    reserve: (bytes) => reservation.reserve(bytes),
  });
  const decoded = decoding instanceof Promise ? await decoding : decoding;
  const bodyBytes = decoded.byteLength;
  const taken =
    deps.large && isLarge(signal, request.format, decoded.byteLength)
      ? await takeLarge(request, decoded, limits, deps, deps.large)
      : takeWhole(request, decoded, limits, deps);
  const { parts, whole, isUntouched, partial, count } = taken;
  const items = parts.reduce((sum, part) => sum + part.items, 0);
  if (items === 0) {
    count();
    return { items, bodyBytes, ...partial };
  }

  const receivedAt = deps.now();
  const common = { signal, origin: 'live', receivedAt } as const;
  const batches = parts.map((part): Batch => {
    const id = newBatchId(receivedAt);
    if (part.body !== undefined) {
      reservation.reserve(part.body.byteLength);
      return {
        ...common,
        id,
        class: part.class,
        encoding: 'identity',
        items: part.items,
        payload: part.body,
      };
    }
    // What nothing changed keeps the compressed bytes it came in. Few backends read deflate: that goes on plain.
    const untouched = isUntouched && encoding !== 'deflate';
    return {
      ...common,
      id,
      class: part.class,
      encoding: untouched ? encoding : 'identity',
      items: part.items,
      payload: untouched ? wire : whole(),
    };
  });
  const results = await enqueueOrStore(deps, batches);
  if (results.includes('full')) {
    // A request is refused whole for want of room.
    if (limits.queue) refuseIfNeverFits(batches, limits.queue);
    const why = 'the queue is at its capacity (queue.max_bytes, queue.max_items)';
    throw unavailable('queue_full', why, 'nothing');
  }
  if (results.includes('lost')) {
    const why = 'its payload was not in Redis any more when it was to be taken';
    throw unavailable('not_kept', why, keptOf(results));
  }
  count();
  if (deps.tap?.open) for (const batch of batches) deps.tap.offer(batch);
  return { items, bodyBytes, ...partial };
}

/** What is to be kept of a request. */
interface Taken {
  /** By class. `body` is undefined when it is all there is. */
  parts: { class: PriorityClass; body: Buffer | undefined; items: number }[];
  /** All there is, as protobuf. */
  whole(): Buffer;
  /** Whether that is what came. */
  isUntouched: boolean;
  partial: { partial?: PartialSuccess };
  /** Once it is acknowledged. */
  count(): void;
}

const NOTHING = { parts: [], isUntouched: false, count: () => {}, whole: () => Buffer.alloc(0) };

function takeWhole(request: IngestRequest, decoded: Buffer, limits: IngestLimits, deps: IngestDeps): Taken {
  const { signal, format, reservation } = request;
  const { maxDepth } = limits;
  const sound = soundProtobuf(signal, format, decoded, limits);
  if (sound.body !== decoded) reservation.reserve(sound.body.byteLength);
  if (sound.items === 0) return { ...NOTHING, partial: partialOf(sound) };
  const limited = signal === 'metrics' && deps.limit ? deps.limit(sound.body) : undefined;
  const body = limited?.body ?? sound.body;
  const partial = partialOf(sound, limited && { rejected: limited.dropped, message: limited.message });
  const count = () => limited?.count();
  let { items } = sound;
  if (body !== sound.body) {
    reservation.reserve(body.byteLength);
    items = walk(signal, body, { maxDepth }).items;
    if (items === 0) return { ...NOTHING, partial, count };
  }
  const parts = deps.classify(signal, body).map((part) => ({
    ...part,
    items: part.body === undefined ? items : walk(signal, part.body, { maxDepth }).items,
  }));
  return { parts, whole: () => body, isUntouched: body === decoded, partial, count };
}

/** The same in pieces, between which others have their turn; what has to be read whole is read by another thread. */
async function takeLarge(
  request: IngestRequest,
  decoded: Buffer,
  limits: IngestLimits,
  deps: IngestDeps,
  large: LargeRequests,
): Promise<Taken> {
  const { signal, format, reservation } = request;
  reservation.reserve(decoded.byteLength); // the pieces
  const sound = await large.read({ signal, format, decoded, options: limits });
  const pieces = sound.pieces.map((piece) => Buffer.from(piece.buffer));
  const limited = signal === 'metrics' && deps.limit ? await limitPieces(pieces, deps.limit) : undefined;
  const bodies = limited?.bodies ?? pieces;
  if (limited?.isChanged) reservation.reserve(bodies.reduce((sum, { byteLength }) => sum + byteLength, 0));
  return {
    parts: await classifyPieces(
      bodies,
      (body) => deps.classify(signal, body),
      (body) => walk(signal, body, limits).items,
    ),
    whole: () => Buffer.concat(bodies),
    isUntouched: format === 'protobuf' && sound.message === '' && !limited?.isChanged,
    partial: partialOf(sound, limited && { rejected: limited.dropped, message: limited.message }),
    count: () => limited?.count(),
  };
}

/** What is said of a success that was none for all items; nothing when it was. */
function partialOf(...all: (PartialSuccess | undefined)[]): { partial?: PartialSuccess } {
  const said = all.filter((one) => one !== undefined && one.message !== '') as PartialSuccess[];
  if (said.length === 0) return {};
  const rejected = said.reduce((sum, one) => sum + one.rejected, 0);
  return { partial: { rejected, message: said.map(({ message }) => message).join('. ') } };
}

/** @throws OtlpError 413 for a request that an empty queue would not hold: to send it again is of no use */
function refuseIfNeverFits(batches: readonly Batch[], queue: QueueCapacity): void {
  const bytes = batches.reduce((sum, { payload }) => sum + payload.byteLength, 0);
  const items = batches.reduce((sum, batch) => sum + batch.items, 0);
  if (bytes <= queue.bytes && items <= queue.items) return;
  throw oversized(
    `the request has ${bytes} bytes and ${items} items as held; the queue takes ${queue.bytes} and ${queue.items} (queue.max_bytes, queue.max_items); send smaller batches`,
  );
}

/** Into Redis, or to the dlq's disk what Redis can't take. */
async function enqueueOrStore(deps: IngestDeps, batches: readonly Batch[]): Promise<EnqueueResult[]> {
  let results: EnqueueResult[] | undefined;
  let why = 'Redis is out of memory';
  let kept: Kept = 'unknown';
  try {
    results = await deps.enqueue(batches);
    kept = keptOf(results);
  } catch (error) {
    if (error instanceof NotSent) kept = 'nothing';
    if (error instanceof NotReplicated) why = error.message;
    else why = error instanceof NotSent ? 'Redis cannot be reached' : 'Redis did not confirm it';
  }
  const outside = batches.filter((_, i) => !results || results[i] === 'no_memory');
  if (outside.length === 0) return results!;
  const { store } = deps;
  if (!store) throw unavailable(results ? 'redis_full' : 'redis_unavailable', why, kept);
  try {
    await Promise.all(outside.map((batch) => store({ ...batch, id: directId(batch.id) })));
  } catch (error) {
    // Another part may be on the disk, and so may this one, when only the dlq's answer is missing.
    throw unavailable('nowhere_durable', `${why}, and ${(error as Error).message}`, 'unknown');
  }
  return batches.map((batch, i) => (outside.includes(batch) ? 'spilled' : results![i]!));
}

/**
 * Redis may have taken the batch all the same, when only its answer got lost. That one and this one are two, each
 * accepted and each delivered: under one name the books would have two in and one out.
 */
function directId(id: string): string {
  return `d${id}`;
}

/** What is known of a request that is not acknowledged. */
type Kept = 'nothing' | 'unknown';

function keptOf(results: readonly EnqueueResult[]): Kept {
  return results.every((result) => result === 'lost' || result === 'no_memory') ? 'nothing' : 'unknown';
}

/** @param kept `unknown`: some of it or all may be delivered, as if it had been acknowledged */
export function unavailable(code: string, why: string, kept: Kept): OtlpError {
  const said =
    kept === 'nothing'
      ? 'nothing of this request was kept, try again later'
      : 'it may have been kept all the same, in whole or in part: try again later, it may then arrive twice';
  return new OtlpError({
    code,
    httpStatus: 503,
    grpcCode: GRPC.UNAVAILABLE,
    message: `${why}; ${said}`,
  });
}
