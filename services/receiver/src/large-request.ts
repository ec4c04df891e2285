import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type BodyFormat, joinInTurns, OtlpError, type Signal } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';
import type { Classified } from './classifier/classifier.ts';
import type { SoundOptions } from './sound.ts';

export interface LargeRequest {
  id: number;
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
  pieces: LargePiece[];
}

export interface LargePiece {
  bytes: Uint8Array<ArrayBuffer>;
  items: number;
}

export type LargeAnswer =
  | ({ id: number } & LargeSound)
  | { id: number; refused: { code: string; httpStatus: number; grpcCode: number; message: string } }
  | { id: number; failed: string };

/**
 * A request larger than this, when decompressed, would hold up the event loop for too long: it is read in another thread, and
 * looked at in pieces. The limiter looks at metrics more closely, and JSON costs more to read.
 */
const LARGE_BYTES = 1024 * 1024;
const LARGE_JSON_BYTES = 512 * 1024;
const LARGE_METRICS_BYTES = 256 * 1024;

export function isLarge(signal: Signal, format: BodyFormat, bytes: number): boolean {
  if (signal === 'profiles') return false;
  if (signal === 'metrics') return bytes > LARGE_METRICS_BYTES;
  return bytes > (format === 'json' ? LARGE_JSON_BYTES : LARGE_BYTES);
}

const IDLE_MS = 30_000;

/** Reads large requests in a thread, which is started for the first of them and ends when none has come for a while. */
export class LargeRequests {
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #next = 0;
  readonly #waiting = new Map<number, (answer: LargeAnswer) => void>();

  /** @throws OtlpError as reading it here would */
  async read(request: Omit<LargeRequest, 'id'>): Promise<LargeSound> {
    // A copy to hand over: the bytes may be the payload, or borrowed, and a message would copy all of them in one go.
    const decoded = await joinInTurns([request.decoded]);
    const id = this.#next++;
    clearTimeout(this.#idle);
    const worker = (this.#worker ??= this.#start());
    const answer = await new Promise<LargeAnswer>((resolve) => {
      this.#waiting.set(id, resolve);
      const { signal, format, options } = request;
      const { maxDepth, invalidUtf8 } = options;
      worker.postMessage({ id, signal, format, decoded, options: { maxDepth, invalidUtf8 } }, [
        decoded.buffer,
      ]);
    });
    if ('refused' in answer) throw new OtlpError(answer.refused);
    if ('failed' in answer) throw new Error(answer.failed);
    return answer;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
  }

  #start(): Worker {
    // In the bundle it is JavaScript, beside whatever chunk this code is in.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./large-worker.${extension}`, import.meta.url));
    worker.unref();
    worker.on('message', (answer: LargeAnswer) => {
      this.#answer(answer);
      if (this.#waiting.size > 0) return;
      this.#idle = setTimeout(() => {
        this.#worker = undefined;
        void worker.terminate();
      }, IDLE_MS);
      this.#idle.unref();
    });
    worker.on('error', (error) => {
      this.#worker = undefined;
      for (const id of [...this.#waiting.keys()]) this.#answer({ id, failed: String(error) });
    });
    return worker;
  }

  #answer(answer: LargeAnswer): void {
    const resolve = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    resolve?.(answer);
  }
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
