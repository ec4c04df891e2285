import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import {
  type ContentEncoding,
  cutRequest,
  encodeContent,
  joinInTurns,
  type Signal,
  splitRequest,
  walk,
} from '@nrdot/otlp';

/** A request that is to be divided. */
export interface Division {
  signal: Signal;
  /** Uncompressed. */
  plain: Uint8Array;
  /** Encoding of the parts. */
  encoding: ContentEncoding;
  /** Maximum size of a part, uncompressed; undefined for two halves. */
  maxBytes: number | undefined;
}

export interface Part {
  bytes: Uint8Array<ArrayBuffer>;
  items: number;
}

/** Larger requests would block the event loop: 60 MiB of log records without content take seconds. */
const LARGE_BYTES = 128 * 1024;
const IDLE_MS = 30_000;

/**
 * Divides requests into parts, each a request by itself; large ones in a thread, one after the other. The thread starts with the
 * first of them, and ends when idle.
 */
export class Divider {
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** @returns a single part, or none, if it cannot be divided */
  async divide(request: Division): Promise<Part[]> {
    if (request.plain.byteLength <= LARGE_BYTES) return divided(request);
    const parts = this.#last.then(() => this.#inThread(request));
    this.#last = parts.catch(() => {});
    return parts;
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
  }

  async #inThread(request: Division): Promise<Part[]> {
    clearTimeout(this.#idle);
    const plain = await joinInTurns([request.plain]); // to be transferred; the original may be a part of other memory
    const worker = (this.#worker ??= new Worker(threadScript()));
    worker.unref();
    try {
      const answer = once(worker, 'message') as Promise<[Part[]]>;
      worker.postMessage({ ...request, plain }, [plain.buffer]);
      return (await answer)[0];
    } catch (error) {
      this.#worker = undefined;
      throw error;
    } finally {
      this.#idle = setTimeout(() => {
        void this.#worker?.terminate();
        this.#worker = undefined;
      }, IDLE_MS).unref();
    }
  }
}

/** Divides a request in this thread. Each part has memory of its own. */
export async function divided({ signal, plain, encoding, maxBytes }: Division): Promise<Part[]> {
  const body = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const pieces =
    maxBytes === undefined ? (splitRequest(signal, body) ?? []) : cutRequest(signal, body, () => maxBytes);
  const parts: Part[] = [];
  for (const piece of pieces) {
    const { items } = walk(signal, piece);
    // Copies of what describes the items would make many times the request.
    if (maxBytes !== undefined && items > 1 && piece.byteLength > maxBytes) return [];
    parts.push({ bytes: new Uint8Array(await encodeContent(piece, encoding)), items });
  }
  return parts;
}

/** In the bundle it is JavaScript, in the same directory as this chunk. */
function threadScript(): URL {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new URL(`./divide-worker.${extension}`, import.meta.url);
}
