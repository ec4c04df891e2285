import {
  type BodyFormat,
  borrowContent,
  type ContentEncoding,
  OtlpError,
  type PartialSuccess,
  plural,
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
  NotSent,
  newBatchId,
  type Preparation,
  type PriorityClass,
} from '@nrdot/queue';
import { NotReplicated } from '@nrdot/redis';
import type { Reservation } from './body.ts';
import type { LiveCheck } from './check/live-check.ts';
import type { LiveFix } from './check/live-fix.ts';
import type { FixCounts } from './check/request-fix.ts';
import type { Classified, Classifier } from './classifier/classifier.ts';
import {
  classifyPieces,
  EXAMINED_MAX_ITEMS,
  isLarge,
  type LargeRequests,
  LIMITED_MAX_BYTES,
  MENDED_MAX_BYTES,
} from './large-request.ts';
import { type SoundBody, type SoundOptions, soundProtobuf } from './sound.ts';
import type { Tap } from './tap/tap.ts';

export interface QueueCapacity {
  bytes: number;
  items: number;
}

export interface IngestLimits extends Pick<SoundOptions, 'maxDepth' | 'invalidUtf8'> {
  maxBodyBytes: number;
  queue?: QueueCapacity | undefined;
}

export interface IngestDeps {
  /** Resolves when the batches are durable, except those with the result `no_memory`. */
  enqueue(batches: readonly Batch[]): Promise<EnqueueResult[]>;
  /** Stores a batch that Redis cannot take; durable when it resolves. Undefined if there is no dlq. */
  store: ((batch: Batch) => Promise<void>) | undefined;
  /** The cardinality limiter of metrics; undefined if it is off. */
  limit: MetricsLimit | undefined;
  /** Splits a request by class. `body` is valid protobuf. */
  classify(signal: Signal, body: Buffer): Classified[];
  /** The rules by which `classify` decides, for `large`; without them, it decides on the event loop however large a request is. */
  rules?(): Pick<Classifier, 'options' | 'readsItems'>;
  /** Reads requests that are too large for the event loop; without it, all are read here. */
  large?: LargeRequests;
  /** Shows acknowledged batches to people who watch. */
  tap?: Pick<Tap, 'open' | 'offer'>;
  /** Checks acknowledged batches against the backend's rules. */
  check?: Pick<LiveCheck, 'offer'>;
  /** Whether and how to remove what the backend would prune, and counts it. */
  fix?: Pick<LiveFix, 'isOn' | 'count'>;
  now(): number;
}

export interface MetricsLimit {
  /** @param body valid protobuf. @param isAlone it does not go through Redis */
  limit(body: Buffer, isAlone?: boolean): Limited;
  /** `limit` for one request in pieces; other work runs between them. */
  limitPieces(pieces: readonly Buffer[]): Promise<Limited>;
  /** Like `enqueue` above, but batches are prepared when their turn comes. */
  enqueue(request: Preparation): Promise<EnqueueResult[]>;
  /** Whether a request that came now would have to wait. */
  readonly busy: boolean;
}

export interface IngestRequest {
  signal: Signal;
  format: BodyFormat;
  encoding: ContentEncoding;
  /** The body as sent. */
  wire: Buffer;
  reservation: Reservation;
}

/** A request after the limiter. */
export interface Limited {
  /** As many as were given: the same buffers unless it is changed. */
  bodies: Buffer[];
  isChanged: boolean;
  /** Dropped points, with the reason for the client. */
  dropped: number;
  message: string;
  /** All receivers must learn what it says of cumulative streams, so it cannot bypass Redis. */
  needsLedger: boolean;
  /** Some of its points are deferred in Redis, or it carries points that were. */
  isHeld: boolean;
  claim: Group['claim'];
  /** Reverts its changes, if it is not enqueued at all. */
  undo(): void;
  /** Its changes were reverted, but its points were sent another way. */
  wentElsewhere(): void;
  /** Adds it to the statistics. Only for acknowledged requests: a rejected one is sent, and limited, again. */
  count(): void;
}

export interface Ingested {
  /** Acknowledged: in the queue or on disk. */
  items: number;
  /** What was removed or repaired, if anything. */
  partial?: PartialSuccess;
  /** Bytes after decompression. */
  bodyBytes: number;
}

/**
 * Processes one request, from wire bytes to acknowledgement: decompress, convert JSON to protobuf, validate and count,
 * classify, enqueue. When it resolves, the request is durable.
 * @throws OtlpError with the answer for the client, which says whether part of the request may have been kept
 */
export async function ingest(
  request: IngestRequest,
  limits: IngestLimits,
  deps: IngestDeps,
): Promise<Ingested> {
  const { signal, encoding, wire, reservation } = request;
  if (wire.byteLength === 0) return { items: 0, bodyBytes: 0 };

  // `decoding` may alias a scratch buffer that the next request overwrites; do not use it after an `await`. A payload is never
  // a view of it: an unchanged body keeps its compressed bytes, and a changed one was written anew. So await only what is a
  // promise.
  const decoding = borrowContent(wire, encoding, {
    maxBytes: limits.maxBodyBytes,
    reserve: (bytes) => reservation.reserve(bytes),
  });
  const decoded = decoding instanceof Promise ? await decoding : decoding;
  const bodyBytes = decoded.byteLength;
  const { large } = deps;
  const { maxDepth, invalidUtf8, maxBodyBytes } = limits;
  const isFixed = deps.fix?.isOn ?? false;
  const sound: SoundOptions = { maxDepth, invalidUtf8, maxBodyBytes, fix: isFixed };
  const rules = deps.rules?.();
  const maxItems = large && rules?.readsItems(signal) ? EXAMINED_MAX_ITEMS : Number.POSITIVE_INFINITY;
  const readAtOnce =
    large && isLarge(signal, request.format, bodyBytes, isFixed)
      ? undefined
      : readWhole(request, decoded, { ...sound, mendMaxBytes: large && MENDED_MAX_BYTES }, maxItems);
  const isLimited = signal === 'metrics' && deps.limit !== undefined;
  const read = readAtOnce ?? (await readLarge(request, decoded, sound, large!, isLimited, rules));
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

  // Decisions about metrics depend on earlier requests, which must be settled first. Until its turn comes, the body needs
  // memory of its own.
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
 * Sends deferred merged points as a request that no client sent. When it resolves they are in the queue, or there were none.
 * @param limit selects them
 * @returns their number
 * @throws if they stay deferred, or if that is unknown
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

/** A request as protobuf, without items that are invalid. */
interface Read {
  /** One body, or the pieces of a large request, each a request by itself. */
  bodies: Buffer[];
  items: number;
  said: PartialSuccess;
  /** The body is the decompressed wire body, unchanged. */
  isAsItCame: boolean;
  /** Items per body. */
  counts: ReadonlyMap<Buffer, number>;
  /** Classes of bodies for which the thread has decided. */
  classes?: ReadonlyMap<Buffer, PriorityClass | undefined>;
  /** What was removed for the backend, if anything. */
  fixed?: FixCounts | undefined;
}

/** @returns undefined if it has more items than this, or invalid ones and is too large to be repaired on the event loop */
function readWhole(
  request: IngestRequest,
  decoded: Buffer,
  options: SoundOptions,
  maxItems: number,
): Read | undefined {
  let sound: SoundBody;
  try {
    sound = soundProtobuf(request.signal, request.format, decoded, options);
  } catch (error) {
    if (error instanceof TooMuchToMend) return undefined;
    throw error;
  }
  if (sound.items > maxItems) return undefined;
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

/** Like `readWhole`, in another thread. */
async function readLarge(
  { signal, format, reservation }: IngestRequest,
  decoded: Buffer,
  options: SoundOptions,
  large: LargeRequests,
  isLimited: boolean,
  rules: Pick<Classifier, 'options'> | undefined,
): Promise<Read> {
  reservation.reserve(decoded.byteLength); // the pieces
  // The limiter comes before the classifier.
  const sound = await large.read({
    signal,
    format,
    decoded,
    options,
    rules: isLimited ? undefined : rules?.options,
  });
  const bytes = sound.pieces.reduce((sum, piece) => sum + piece.bytes.byteLength, 0);
  if (bytes > decoded.byteLength) reservation.reserve(bytes - decoded.byteLength);
  const kept = sound.pieces.filter((piece) => !isLimited || piece.bytes.byteLength <= LIMITED_MAX_BYTES);
  const items = kept.reduce((sum, piece) => sum + piece.items, 0);
  const pieces = kept.map((piece) => ({ ...piece, body: Buffer.from(piece.bytes.buffer) }));
  const { partial: said = { rejected: 0, message: '' } } = partialOf(
    sound,
    items < sound.items ? rejected(signal, sound.items - items) : undefined,
  );
  return {
    bodies: pieces.map(({ body }) => body),
    items,
    said,
    isAsItCame: format === 'protobuf' && said.message === '' && !sound.fixed,
    counts: new Map(pieces.map(({ body, items }) => [body, items])),
    classes: new Map(pieces.map(({ body, class: priorityClass }) => [body, priorityClass])),
    fixed: sound.fixed,
  };
}

function rejected(signal: Signal, items: number): PartialSuccess {
  const what = plural(items, SIGNALS[signal].item);
  const message = `rejected ${what} that cannot be processed in pieces: more than ${LIMITED_MAX_BYTES} bytes with their resource, scope and metric; send smaller ones`;
  return { rejected: items, message };
}

interface Work {
  request: IngestRequest;
  limits: IngestLimits;
  deps: IngestDeps;
  read: Read;
  receivedAt: number;
}

/** A request of metrics. Its batches are made when its turn comes, and again if what they relied on has changed. */
class MetricsTurn implements Preparation {
  readonly #work: Work;
  readonly #limit: MetricsLimit;
  readonly #isBorrowed: boolean;
  #bodies: Buffer[] | undefined;
  limited!: Limited;
  /** Undefined until it is prepared. */
  batches: readonly Batch[] | undefined;

  constructor(work: Work, limit: MetricsLimit, isBorrowed: boolean) {
    this.#work = work;
    this.#limit = limit;
    this.#isBorrowed = isBorrowed;
    this.#bodies = work.read.bodies;
  }

  /** Copies the body, so that its memory can be reused. */
  own(): void {
    const [body] = this.#bodies!;
    this.#work.request.reservation.reserve(body!.byteLength);
    this.#bodies = [Buffer.from(body!)];
  }

  get #inPieces(): boolean {
    return this.#bodies !== undefined && this.#bodies.length > 1;
  }

  enqueue(): Promise<EnqueueResult[]> {
    return this.#limit.enqueue(this);
  }

  prepare(): Group | Promise<Group> {
    if (!this.#inPieces) return this.#prepareOne(false);
    return this.#limit.limitPieces(this.#bodies!).then((limited) => this.#grouped(limited));
  }

  #prepareOne(isAlone: boolean): Group {
    const body = this.#bodies?.[0] ?? this.#again();
    if (this.#isBorrowed) this.#bodies = undefined;
    return this.#grouped(this.#limit.limit(body, isAlone)) as Group;
  }

  /**
   * The batches for a request that does not go through Redis. If its turn never came, or it carries points that are deferred in
   * Redis, they are made now, and their changes reverted at once because earlier requests are still open.
   * @returns undefined for a request in pieces that would have to be made now: other requests would run between the pieces
   */
  outOfTurn(): readonly Batch[] | undefined {
    if (this.batches && !this.limited.isHeld) return this.batches;
    if (this.#inPieces) return undefined;
    this.#prepareOne(true);
    this.limited.undo();
    return this.batches;
  }

  /** The batches of what the limiter returned; synchronous for a single body. */
  #grouped(limited: Limited): Group | Promise<Group> {
    const { request } = this.#work;
    const { bodies, isChanged, claim, undo } = limited;
    const asItCame = keepsItsBytes(this.#work, isChanged);
    this.limited = limited;
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

  /** Decodes the body again after its memory was reused. Cheap, since only small bodies alias the scratch buffer. */
  #again(): Buffer {
    const { request, limits } = this.#work;
    const decoded = borrowContent(request.wire, request.encoding, { maxBytes: limits.maxBodyBytes });
    if (decoded instanceof Promise) throw new Error('a borrowed body is decompressed at once');
    return decoded;
  }
}

/** One class of a request; `body` is undefined if that is the whole request. */
type Part = Classified & { items: number };

/** Splits a request by class: synchronously, or in pieces between which other work runs. */
function classified(
  { request, limits, deps, read }: Work,
  bodies: readonly Buffer[],
  asItCame: boolean,
): Part[] | Promise<Part[]> {
  const { signal } = request;
  const { maxDepth } = limits;
  const itemsOf = (body: Buffer) => read.counts.get(body) ?? walk(signal, body, { maxDepth }).items;
  const classify = (body: Buffer): Classified[] => {
    const known = read.classes?.get(body);
    return known ? [{ class: known, body: undefined }] : deps.classify(signal, body);
  };
  if (bodies.length > 1) return classifyPieces(bodies, classify, itemsOf, asItCame);
  const body = bodies[0]!;
  return classify(body).map((part) => ({ ...part, items: itemsOf(part.body ?? body) }));
}

/** Unchanged bodies keep the compressed bytes in which they came, except deflate, which few backends accept. */
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
  return parts.map(({ class: priorityClass, items, body }): Batch => {
    const batch = { ...common, id: newBatchId(receivedAt), class: priorityClass, items };
    if (body === undefined && asItCame) return { ...batch, encoding, payload: wire };
    if (body !== undefined) reservation.reserve(body.byteLength);
    return { ...batch, encoding: 'identity', payload: body ?? bodies[0]! };
  });
}

/** @throws OtlpError if the batches were not kept */
async function settled(
  { limits, deps }: Work,
  results: readonly EnqueueResult[],
  batches: readonly Batch[],
): Promise<void> {
  if (results.includes('full')) {
    // If the queue is full, all batches of a request are rejected together.
    if (limits.queue) refuseIfNeverFits(batches, limits.queue);
    const reason = 'the queue is at its capacity (queue.max_bytes, queue.max_items)';
    throw unavailable('queue_full', reason, 'nothing');
  }
  if (results.includes('lost')) {
    const reason = 'its payload was no longer in Redis when its job was added';
    throw unavailable('not_kept', reason, keptOf(results));
  }
  if (deps.tap?.open) for (const batch of batches) deps.tap.offer(batch);
  if (deps.check) for (const batch of batches) deps.check.offer(batch);
}

/** The partial success of an answer; empty if all items were accepted. */
function partialOf(...all: (PartialSuccess | undefined)[]): { partial?: PartialSuccess } {
  const said = all.filter((one) => one !== undefined && one.message !== '') as PartialSuccess[];
  if (said.length === 0) return {};
  const rejected = said.reduce((sum, one) => sum + one.rejected, 0);
  return { partial: { rejected, message: said.map(({ message }) => message).join('. ') } };
}

/** @throws OtlpError 413 for a request that would not fit into an empty queue, so that clients do not retry it */
function refuseIfNeverFits(batches: readonly Batch[], queue: QueueCapacity): void {
  const bytes = batches.reduce((sum, { payload }) => sum + payload.byteLength, 0);
  const items = batches.reduce((sum, batch) => sum + batch.items, 0);
  if (bytes <= queue.bytes && items <= queue.items) return;
  throw new OtlpError(
    413,
    'too_large',
    `the request has ${bytes} bytes and ${items} items as stored; the queue accepts ${queue.bytes} and ${queue.items} (queue.max_bytes, queue.max_items); send smaller batches`,
  );
}

/** Enqueues, and stores on the dlq's disk what Redis cannot take. */
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
    if (error instanceof OtlpError) throw error; // the error with which `prepare` rejected it
    if (error instanceof Contended) throw unavailable('limiter_contended', error.message, 'nothing');
    if (error instanceof NotSent) kept = 'nothing';
    if (error instanceof NotReplicated) reason = error.message;
    else reason = error instanceof NotSent ? 'Redis cannot be reached' : 'Redis did not confirm it';
  }
  if (results && !results.includes('no_memory')) return results;
  const batches = turn ? turn.outOfTurn() : (request as readonly Batch[]);
  if (!batches) throw unavailable('redis_unavailable', reason, kept);
  if (turn?.limited.needsLedger) {
    // Only the ledger in Redis has the state of its cumulative sources, which will send the total again.
    throw unavailable('no_ledger', `${reason}, which has the last values of cumulative points`, kept);
  }
  // A `turn` may have other batches than were enqueued, because points that are deferred in Redis are not sent with them.
  const outside = batches.filter((_, i) => !results || turn || isNotKept(results[i]!));
  if (outside.length === 0) return [];
  const { store } = deps;
  if (!store) throw unavailable(results ? 'redis_full' : 'redis_unavailable', reason, kept);
  try {
    await Promise.all(outside.map((batch) => store({ ...batch, id: directId(batch.id) })));
  } catch (error) {
    // Other parts may be on the disk, and so may this one if only the dlq's answer was lost.
    throw unavailable('nowhere_durable', `${reason}, and ${(error as Error).message}`, 'unknown');
  }
  turn?.limited.wentElsewhere();
  return batches.map((batch, i) => (outside.includes(batch) ? 'spilled' : results![i]!));
}

/**
 * Redis may have the batch all the same if only its answer was lost. The two copies need different ids, since each is accepted
 * and delivered: with one id the accounting would have two in and one out.
 */
function directId(id: string): string {
  return `d${id}`;
}

/** What is known of a request that is not acknowledged. */
type Kept = 'nothing' | 'unknown';

function keptOf(results: readonly EnqueueResult[]): Kept {
  return results.every(isNotKept) ? 'nothing' : 'unknown';
}

/** Includes `again`, which a batch gets with its whole request. */
function isNotKept(result: EnqueueResult): boolean {
  return result === 'lost' || result === 'no_memory' || result === 'again';
}

/** @param kept `unknown`: part of the request, or all of it, may be delivered as if it had been acknowledged */
export function unavailable(code: string, reason: string, kept: Kept): OtlpError {
  const said =
    kept === 'nothing'
      ? 'nothing of this request was stored; try again later'
      : 'it may still have been stored, in whole or in part; if you try again, it may arrive twice';
  return new OtlpError(503, code, `${reason}; ${said}`);
}
