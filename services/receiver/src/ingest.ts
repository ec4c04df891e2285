import {
  type BodyFormat,
  borrowContent,
  type ContentEncoding,
  GRPC,
  OtlpError,
  oversized,
  type PartialSuccess,
  SIGNALS,
  type Signal,
  TooMuchToMend,
  walk,
} from '@nrdot/otlp';
import {
  type Batch,
  Contended,
  type EnqueueResult,
  type Group,
  NotReplicated,
  NotSent,
  newBatchId,
  type Preparation,
} from '@nrdot/queue';
import type { Reservation } from './body.ts';
import type { LiveCheck } from './check/live-check.ts';
import type { LiveFix } from './check/live-fix.ts';
import type { FixCounts } from './check/request-fix.ts';
import type { Classified } from './classifier/classifier.ts';
import {
  classifyPieces,
  DESCRIBING_MAX_BYTES,
  isLarge,
  type LargeRequests,
  LIMITED_MAX_BYTES,
  MENDED_MAX_BYTES,
  tooMuchAtOnce,
} from './large-request.ts';
import { type SoundBody, type SoundOptions, soundProtobuf } from './sound.ts';
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
  /** Holds the cardinality of metrics; undefined when it is off. */
  limit: MetricsLimit | undefined;
  /** The parts of a request by class. `body` is protobuf, validated. */
  classify(signal: Signal, body: Buffer): Classified[];
  /** Reads what is too large to be read here; without it everything is. */
  large?: LargeRequests;
  /** Shows people what was acknowledged, while one looks. */
  tap?: Pick<Tap, 'open' | 'offer'>;
  /** Holds what was acknowledged against the rules of the backend. */
  check?: Pick<LiveCheck, 'offer'>;
  /** Counts what was taken out of requests, with `fix` among the limits. */
  fix?: Pick<LiveFix, 'isOn' | 'count'>;
  now(): number;
}

export interface MetricsLimit {
  /**
   * @param body protobuf, validated
   * @param isAlone it goes another way than through Redis
   */
  limit(body: Buffer, isAlone?: boolean): Limited;
  /** The same for one request in pieces: others have their turn between them. */
  limitPieces(pieces: readonly Buffer[]): Promise<LimitedPieces>;
  /** The same as for other batches; they are prepared when their turn has come. */
  enqueue(request: Preparation): Promise<EnqueueResult[]>;
  /** A request that comes now waits for its turn. */
  readonly busy: boolean;
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
  /** What it says of cumulative streams has to be known to all receivers: it goes nowhere but to Redis. */
  needsLedger: boolean;
  /** Some of its points wait in Redis until their interval is over, or others that did go with it. */
  isHeld: boolean;
  claim: Group['claim'];
  /** Takes back what it changed, when it is not enqueued at all. */
  undo(): void;
  /** It was taken back, and its points are on their way all the same. */
  wentElsewhere(): void;
  /** Counts what was done to it. Only what is acknowledged counts: what is refused is sent, and limited, again. */
  count(): void;
}

export type LimitedPieces = Omit<Limited, 'body'> & { bodies: Buffer[]; isChanged: boolean };

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
  const { large } = deps;
  const readAtOnce =
    large && isLarge(signal, request.format, bodyBytes)
      ? undefined
      : readWhole(request, decoded, { ...limits, mendMaxBytes: large && MENDED_MAX_BYTES });
  const read = readAtOnce ?? (await readLarge(request, decoded, limits, large!, deps.limit !== undefined));
  if (read.items === 0) return { items: 0, bodyBytes, ...partialOf(read.said) };
  const work = { request, limits, deps, read, receivedAt: deps.now() };
  if (signal !== 'metrics' || !deps.limit) {
    const asItCame = keepsItsBytes(work, false);
    const classifying = classified(work, read.bodies, asItCame);
    const parts = classifying instanceof Promise ? await classifying : classifying;
    const batches = batchesOf(work, parts, read.bodies, asItCame);
    await settled(work, await enqueueOrStore(deps, batches), batches);
    if (read.fixed) deps.fix?.count(signal, read.fixed);
    return { items: read.items, bodyBytes, ...partialOf(read.said) };
  }

  // What is decided about metrics depends on the requests before it, and they have to be settled first. Until its turn has come
  // the body has to be its own.
  const isBorrowed = read.bodies[0] === decoded && decoded !== wire && !(decoding instanceof Promise);
  const turn = new MetricsTurn(work, deps.limit, isBorrowed);
  if (isBorrowed && deps.limit.busy) turn.own();
  const results = await enqueueOrStore(deps, turn);
  const { limited, batches = [] } = turn;
  if (batches.length > 0) await settled(work, results, batches);
  limited.count();
  if (read.fixed) deps.fix?.count(signal, read.fixed);
  const { dropped: rejected, message } = limited;
  return {
    items: batches.reduce((sum, batch) => sum + batch.items, 0),
    bodyBytes,
    ...partialOf(read.said, { rejected, message }),
  };
}

/**
 * Sends merged points that have waited: a request that nobody sent. When it resolves they are in the queue, or there were none.
 * @param limit says which
 * @returns how many
 * @throws when they wait on, or it is not known
 */
export async function sendHeld(limits: IngestLimits, deps: IngestDeps, limit: MetricsLimit): Promise<number> {
  const nothing = Buffer.alloc(0);
  const request: IngestRequest = {
    ...{ signal: 'metrics', format: 'protobuf', encoding: 'identity', wire: nothing },
    reservation: { reserve: () => {}, look: () => {}, release: () => {} },
  };
  const read: Read = {
    ...{ bodies: [nothing], counts: new Map(), items: 0, isAsItCame: false },
    said: { rejected: 0, message: '' },
  };
  const work: Work = { request, limits, deps, read, receivedAt: deps.now() };
  const turn = new MetricsTurn(work, limit, false);
  const results = await limit.enqueue(turn);
  const { batches = [] } = turn;
  if (results.includes('no_memory'))
    throw unavailable('redis_full', 'Redis is out of memory', keptOf(results));
  await settled(work, results, batches);
  turn.limited.count();
  return batches.reduce((sum, { items }) => sum + items, 0);
}

/** A request as protobuf, without what is wrong with single items of it. */
interface Read {
  /** One, or the pieces of a large request, each one a request by itself. */
  bodies: Buffer[];
  items: number;
  said: PartialSuccess;
  /** The body is what was on the wire, decompressed. */
  isAsItCame: boolean;
  /** Of each body. */
  counts: ReadonlyMap<Buffer, number>;
  /** What was taken out of it for the backend, when anything was. */
  fixed?: FixCounts | undefined;
}

/** @returns undefined when something is wrong with it, and it is too large to be mended at once */
function readWhole(request: IngestRequest, decoded: Buffer, limits: IngestLimits): Read | undefined {
  let sound: SoundBody;
  try {
    sound = soundProtobuf(request.signal, request.format, decoded, limits);
  } catch (error) {
    if (error instanceof TooMuchToMend) return undefined;
    throw error;
  }
  if (sound.body !== decoded) request.reservation.reserve(sound.body.byteLength);
  return {
    bodies: [sound.body],
    items: sound.items,
    said: sound,
    isAsItCame: sound.body === decoded,
    counts: new Map([[sound.body, sound.items]]),
    fixed: sound.fixed,
  };
}

/** The same by another thread. */
async function readLarge(
  { signal, format, reservation }: IngestRequest,
  decoded: Buffer,
  limits: IngestLimits,
  large: LargeRequests,
  limiter: boolean,
): Promise<Read> {
  reservation.reserve(decoded.byteLength); // the pieces
  const sound = await large.read({ signal, format, decoded, options: limits });
  const bytes = sound.pieces.reduce((sum, piece) => sum + piece.bytes.byteLength, 0);
  if (bytes > decoded.byteLength) reservation.reserve(bytes - decoded.byteLength);
  const isLimited = signal === 'metrics' && limiter;
  const tooMuch = { limited: 0, described: 0 };
  const kept = sound.pieces.filter((piece) => {
    const reason = tooMuchAtOnce(piece, isLimited);
    if (reason) tooMuch[reason] += piece.items;
    return !reason;
  });
  const pieces = kept.map(({ bytes, items }) => [Buffer.from(bytes.buffer), items] as const);
  const { partial: said = { rejected: 0, message: '' } } = partialOf(
    sound,
    rejected(signal, tooMuch.limited, `more than ${LIMITED_MAX_BYTES} bytes with what describes them`),
    rejected(signal, tooMuch.described, `what describes them has more than ${DESCRIBING_MAX_BYTES} bytes`),
  );
  return {
    bodies: pieces.map(([body]) => body),
    items: pieces.reduce((sum, [, items]) => sum + items, 0),
    said,
    isAsItCame: format === 'protobuf' && said.message === '' && !sound.fixed,
    counts: new Map(pieces),
    fixed: sound.fixed,
  };
}

function rejected(signal: Signal, items: number, reason: string): PartialSuccess | undefined {
  if (items === 0) return undefined;
  const { item } = SIGNALS[signal];
  return {
    rejected: items,
    message: `rejected ${items} ${item}${items === 1 ? '' : 's'} that cannot be read in pieces: ${reason} (attributes of resource, scope and the like); send smaller ones`,
  };
}

interface Work {
  request: IngestRequest;
  limits: IngestLimits;
  deps: IngestDeps;
  read: Read;
  receivedAt: number;
}

/** A request of metrics, whose batches are made when its turn has come, and again when what they relied on has changed. */
class MetricsTurn implements Preparation {
  readonly #work: Work;
  readonly #limit: MetricsLimit;
  readonly #isBorrowed: boolean;
  #bodies: Buffer[] | undefined;
  limited!: Omit<Limited, 'body'>;
  /** Undefined until it was prepared. */
  batches: readonly Batch[] | undefined;

  constructor(work: Work, limit: MetricsLimit, isBorrowed: boolean) {
    this.#work = work;
    this.#limit = limit;
    this.#isBorrowed = isBorrowed;
    this.#bodies = work.read.bodies;
  }

  /** Copies the body, so that others may use the memory that it lies in. */
  own(): void {
    const [body] = this.#bodies!;
    this.#work.request.reservation.reserve(body!.byteLength);
    this.#bodies = [Buffer.from(body!)];
  }

  enqueue(): Promise<EnqueueResult[]> {
    return this.#limit.enqueue(this);
  }

  prepare(): Group | Promise<Group> {
    if (this.#bodies && this.#bodies.length > 1) return this.#preparePieces(this.#bodies);
    return this.#prepareOne(false);
  }

  #prepareOne(isAlone: boolean): Group {
    const body = this.#bodies?.[0] ?? this.#again();
    if (this.#isBorrowed) this.#bodies = undefined;
    const limited = this.#limit.limit(body, isAlone);
    this.limited = limited;
    return this.#grouped([limited.body], limited.body !== body) as Group;
  }

  /**
   * The batches for what goes past Redis. When its turn never came, or what waits in Redis is part of it, they are made now, and what
   * that changes is taken back at once: others are open below it.
   * @returns undefined for pieces of which that is so: between them others would have their turn
   */
  outOfTurn(): readonly Batch[] | undefined {
    if (this.batches && !this.limited.isHeld) return this.batches;
    if (this.#bodies && this.#bodies.length > 1) return undefined;
    this.#prepareOne(true);
    this.limited.undo();
    return this.batches;
  }

  async #preparePieces(pieces: readonly Buffer[]): Promise<Group> {
    const limited = await this.#limit.limitPieces(pieces);
    this.limited = limited;
    return this.#grouped(limited.bodies, limited.isChanged);
  }

  /** The batches of what the limiter left, at once when it is one body. */
  #grouped(bodies: Buffer[], isChanged: boolean): Group | Promise<Group> {
    const { request } = this.#work;
    const asItCame = keepsItsBytes(this.#work, isChanged);
    const { claim, undo } = this.limited;
    const group = (parts: Part[]): Group => {
      const kept = parts.filter(({ items }) => items > 0);
      const batches = batchesOf(this.#work, kept, bodies, asItCame);
      this.batches = batches;
      return { batches, claim };
    };
    try {
      if (isChanged) request.reservation.reserve(bodies.reduce((sum, { byteLength }) => sum + byteLength, 0));
      const parts = classified(this.#work, bodies, asItCame);
      if (!(parts instanceof Promise)) return group(parts);
      return parts.then(group).catch((error: unknown) => {
        undo();
        throw error;
      });
    } catch (error) {
      undo();
      throw error;
    }
  }

  /** The body once more, after its memory was used by others. Small, or it would not have been borrowed. */
  #again(): Buffer {
    const { request, limits } = this.#work;
    const decoded = borrowContent(request.wire, request.encoding, { maxBytes: limits.maxBodyBytes });
    if (decoded instanceof Promise) throw new Error('a borrowed body is decompressed at once');
    return decoded;
  }
}

/** What is kept of a class; `body` is undefined when it is all there is. */
type Part = Classified & { items: number };

/** The parts of a request by class: at once, or in pieces between which others have their turn. */
function classified(
  { request, limits, deps, read }: Work,
  bodies: readonly Buffer[],
  asItCame: boolean,
): Part[] | Promise<Part[]> {
  const { signal } = request;
  const { maxDepth } = limits;
  const itemsOf = (body: Buffer) => read.counts.get(body) ?? walk(signal, body, { maxDepth }).items;
  if (bodies.length > 1)
    return classifyPieces(bodies, (body) => deps.classify(signal, body), itemsOf, asItCame);
  const body = bodies[0]!;
  return deps.classify(signal, body).map((part) => ({ ...part, items: itemsOf(part.body ?? body) }));
}

/** What nothing changed keeps the compressed bytes it came in. Few backends read deflate: that goes on plain. */
function keepsItsBytes({ request, read }: Work, isChanged: boolean): boolean {
  return read.isAsItCame && !isChanged && request.encoding !== 'deflate';
}

function batchesOf(
  { request, receivedAt }: Work,
  parts: readonly Part[],
  bodies: readonly Buffer[],
  asItCame: boolean,
): Batch[] {
  const { signal, encoding, wire, reservation } = request;
  const common = { signal, origin: 'live', receivedAt } as const;
  return parts.map((part): Batch => {
    const id = newBatchId(receivedAt);
    if (part.body !== undefined) {
      reservation.reserve(part.body.byteLength);
      const { class: priorityClass, items, body: payload } = part;
      return { ...common, id, class: priorityClass, encoding: 'identity', items, payload };
    }
    return {
      ...common,
      id,
      class: part.class,
      encoding: asItCame ? encoding : 'identity',
      items: part.items,
      payload: asItCame ? wire : bodies[0]!,
    };
  });
}

/** @throws OtlpError when the batches were not kept */
async function settled(
  { limits, deps }: Work,
  results: readonly EnqueueResult[],
  batches: readonly Batch[],
): Promise<void> {
  if (results.includes('full')) {
    // A request is refused whole for want of room.
    if (limits.queue) refuseIfNeverFits(batches, limits.queue);
    const reason = 'the queue is at its capacity (queue.max_bytes, queue.max_items)';
    throw unavailable('queue_full', reason, 'nothing');
  }
  if (results.includes('lost')) {
    const reason = 'its payload was not in Redis any more when it was to be taken';
    throw unavailable('not_kept', reason, keptOf(results));
  }
  if (deps.tap?.open) for (const batch of batches) deps.tap.offer(batch);
  if (deps.check) for (const batch of batches) deps.check.offer(batch);
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
async function enqueueOrStore(
  deps: IngestDeps,
  request: MetricsTurn | readonly Batch[],
): Promise<EnqueueResult[]> {
  const turn = 'prepare' in request ? request : undefined;
  let results: EnqueueResult[] | undefined;
  let reason = 'Redis is out of memory';
  let kept: Kept = 'unknown';
  try {
    results = await (turn ? turn.enqueue() : deps.enqueue(request as readonly Batch[]));
    kept = keptOf(results);
  } catch (error) {
    if (error instanceof OtlpError) throw error; // what its preparation refused it with
    if (error instanceof Contended) throw unavailable('limiter_contended', error.message, 'nothing');
    if (error instanceof NotSent) kept = 'nothing';
    if (error instanceof NotReplicated) reason = error.message;
    else reason = error instanceof NotSent ? 'Redis cannot be reached' : 'Redis did not confirm it';
  }
  if (results && !results.includes('no_memory')) return results;
  const batches = turn ? turn.outOfTurn() : (request as readonly Batch[]);
  if (!batches) throw unavailable('redis_unavailable', reason, kept);
  if (turn?.limited.needsLedger) {
    // Only the ledger in Redis knows what its sources have counted. They will say it again.
    throw unavailable('no_ledger', `${reason}, where it is kept what was counted of cumulative points`, kept);
  }
  // Those of a turn may be others than the step was given: what waits in Redis does not go with them.
  const outside = batches.filter((_, i) => !results || turn || isNotKept(results[i]!));
  if (outside.length === 0) return [];
  const { store } = deps;
  if (!store) throw unavailable(results ? 'redis_full' : 'redis_unavailable', reason, kept);
  try {
    await Promise.all(outside.map((batch) => store({ ...batch, id: directId(batch.id) })));
  } catch (error) {
    // Another part may be on the disk, and so may this one, when only the dlq's answer is missing.
    throw unavailable('nowhere_durable', `${reason}, and ${(error as Error).message}`, 'unknown');
  }
  turn?.limited.wentElsewhere();
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
  return results.every(isNotKept) ? 'nothing' : 'unknown';
}

/** Also of a batch that was there itself, in a request whose batches stand or fall together (`again`). */
function isNotKept(result: EnqueueResult): boolean {
  return result === 'lost' || result === 'no_memory' || result === 'again';
}

/** @param kept `unknown`: some of it or all may be delivered, as if it had been acknowledged */
export function unavailable(code: string, reason: string, kept: Kept): OtlpError {
  const said =
    kept === 'nothing'
      ? 'nothing of this request was kept, try again later'
      : 'it may have been kept all the same, in whole or in part: try again later, it may then arrive twice';
  return new OtlpError({
    code,
    httpStatus: 503,
    grpcCode: GRPC.UNAVAILABLE,
    message: `${reason}; ${said}`,
  });
}
