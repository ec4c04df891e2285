import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type BodyFormat, GRPC, joinInTurns, OtlpError, type Signal } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';
import type { FixCounts } from './check/request-fix.ts';
import type { Classified } from './classifier/classifier.ts';
import type { SoundOptions } from './sound.ts';

export interface LargeRequest {
  signal: Signal;
  format: BodyFormat;
  decoded: Uint8Array;
  options: SoundOptions;
}

/** A sound request in pieces, each one a request by itself. */
export interface LargeSound {
  items: number;
  rejected: number;
  message: string;
  fixed?: FixCounts | undefined;
  pieces: LargePiece[];
}

export interface LargePiece {
  bytes: Uint8Array<ArrayBuffer>;
  items: number;
  /** What is not within the items. */
  describingBytes: number;
}

export type LargeAnswer =
  | LargeSound
  | { refused: { code: string; httpStatus: number; grpcCode: number; message: string } }
  | { failed: string };

/**
 * A request larger than this, when decompressed, would hold up the event loop for too long: it is read in another thread, and
 * looked at in pieces. The limiter looks at metrics more closely, and JSON costs more to read.
 */
const LARGE_BYTES = 1024 * 1024;
const LARGE_JSON_BYTES = 512 * 1024;
const LARGE_METRICS_BYTES = 256 * 1024;
/** And to write a request anew without what is wrong with it costs several times what reading it does. */
export const MENDED_MAX_BYTES = 128 * 1024;
/** The limiter reads no more than this in one turn: neither a whole request, nor a piece of one that cannot be cut smaller. */
export const LIMITED_MAX_BYTES = LARGE_METRICS_BYTES;
/** The classifier reads what describes items, and of items little. */
export const DESCRIBING_MAX_BYTES = 1024 * 1024;

export function isLarge(signal: Signal, format: BodyFormat, bytes: number): boolean {
  if (signal === 'profiles') return false;
  if (signal === 'metrics') return bytes > LARGE_METRICS_BYTES;
  return bytes > (format === 'json' ? LARGE_JSON_BYTES : LARGE_BYTES);
}

/** What neither can be cut any smaller nor be read without holding others up. @returns why it is refused */
export function tooMuchAtOnce(
  { bytes, describingBytes }: LargePiece,
  isLimited: boolean,
): 'limited' | 'described' | undefined {
  if (isLimited && bytes.byteLength > LIMITED_MAX_BYTES) return 'limited';
  return describingBytes > DESCRIBING_MAX_BYTES ? 'described' : undefined;
}

const IDLE_MS = 30_000;
/** For one request. The worst of 64 MiB takes a third of it on a machine that has nothing else to do. */
const DEADLINE_MS = 30_000;

interface Waiting {
  request: LargeRequest;
  resolve(answer: LargeAnswer): void;
  reject(error: unknown): void;
}

export interface LargeOptions {
  /** How long the thread may work on one request. */
  deadlineMs?: number;
  /** What the thread runs. */
  script?: URL;
}

/**
 * Reads large requests in a thread, one after the other. The thread is started for the first of them, ends when none has come for a
 * while, and is replaced when it fails or has not answered in time: that concerns the request that it worked on, and no other.
 */
export class LargeRequests {
  readonly #deadlineMs: number;
  readonly #script: URL;
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #current: Waiting | undefined;
  readonly #waiting: Waiting[] = [];

  constructor({ deadlineMs = DEADLINE_MS, script = threadScript() }: LargeOptions = {}) {
    this.#deadlineMs = deadlineMs;
    this.#script = script;
  }

  /** @throws OtlpError as reading it here would, and 503 when it takes too long */
  async read(request: LargeRequest): Promise<LargeSound> {
    // A copy to hand over: the bytes may be the payload, or borrowed, and a message would copy all of them in one go.
    const decoded = await joinInTurns([request.decoded]);
    const answer = await new Promise<LargeAnswer>((resolve, reject) => {
      this.#waiting.push({ request: { ...request, decoded }, resolve, reject });
      this.#takeNext();
    });
    if ('refused' in answer) throw new OtlpError(answer.refused);
    if ('failed' in answer) throw new Error(answer.failed);
    return answer;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    clearTimeout(this.#deadline);
    await this.#worker?.terminate();
  }

  #takeNext(): void {
    if (this.#current) return;
    this.#current = this.#waiting.shift();
    if (!this.#current) {
      this.#idle = setTimeout(() => this.#endThread(), IDLE_MS);
      this.#idle.unref();
      return;
    }
    clearTimeout(this.#idle);
    this.#deadline = setTimeout(() => this.#giveUp(), this.#deadlineMs);
    const { signal, format, decoded, options } = this.#current.request;
    const { maxDepth, invalidUtf8, fix = false } = options;
    const worker = (this.#worker ??= this.#start());
    worker.postMessage({ signal, format, decoded, options: { maxDepth, invalidUtf8, fix } }, [
      decoded.buffer as ArrayBuffer,
    ]);
  }

  #start(): Worker {
    const worker = new Worker(this.#script);
    worker.unref();
    worker.on('message', (answer: LargeAnswer) => {
      if (this.#worker === worker) this.#end(({ resolve }) => resolve(answer));
    });
    // Uncaught, or out of memory: no other request has a part in that.
    worker.on('error', (error) => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#end(({ reject }) => reject(error));
    });
    return worker;
  }

  #endThread(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
  }

  #giveUp(): void {
    this.#endThread();
    const error = new OtlpError({
      code: 'too_slow',
      httpStatus: 503,
      grpcCode: GRPC.UNAVAILABLE,
      message: `the request could not be read within ${this.#deadlineMs / 1000} s, and nothing of it was kept; try again later, in smaller batches`,
    });
    this.#end(({ reject }) => reject(error));
  }

  /** Answers the request that the thread works on, and gives it the next. */
  #end(answer: (waiting: Waiting) => void): void {
    clearTimeout(this.#deadline);
    const ended = this.#current;
    this.#current = undefined;
    if (ended) answer(ended);
    this.#takeNext();
  }
}

/** In the bundle it is JavaScript, beside whatever chunk this code is in. */
function threadScript(): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`./large-worker.${extension}`, import.meta.url);
}

/**
 * Classifies one piece after the other, and puts those of one class together again.
 * @param asItCame what is all of one class stays as it came, and is not put together
 */
export async function classifyPieces(
  pieces: readonly Buffer[],
  classify: (body: Buffer) => Classified[],
  itemsOf: (body: Buffer) => number,
  asItCame: boolean,
): Promise<(Classified & { items: number })[]> {
  const found = new Map<PriorityClass, { bodies: Buffer[]; items: number }>();
  for (const piece of pieces) {
    for (const { class: priorityClass, body = piece } of classify(piece)) {
      const of = found.get(priorityClass) ?? { bodies: [], items: 0 };
      found.set(priorityClass, of);
      of.bodies.push(body);
      of.items += itemsOf(body);
    }
    await turn();
  }
  const parts: (Classified & { items: number })[] = [];
  for (const [priorityClass, { bodies, items }] of found) {
    const body = asItCame && found.size === 1 ? undefined : await joinInTurns(bodies);
    parts.push({ class: priorityClass, body, items });
  }
  return parts;
}
