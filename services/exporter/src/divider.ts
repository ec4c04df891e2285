import {
  type ContentEncoding,
  cutRequest,
  encodeContent,
  joinInTurns,
  type Signal,
  splitRequest,
  walk,
} from '@nrdot/otlp';
import { Thread, threadScript } from '@nrdot/service/thread';

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

/** Maximum size of all parts together, as a multiple of the request: each has a copy of what describes its items. */
const MAX_GROWTH = 4;

/** Divides requests into parts, each a request by itself; large ones in a thread, one after the other. */
export class Divider {
  readonly #thread = new Thread<Division, Part[]>(threadScript('divide-worker', import.meta.url));
  /** Copies are made one after the other, too. */
  #last: Promise<unknown> = Promise.resolve();

  /** @returns a single part, or none, if it cannot be divided */
  async divide(request: Division): Promise<Part[]> {
    if (request.plain.byteLength <= LARGE_BYTES) return divided(request);
    const parts = this.#last.then(async () => {
      const plain = await joinInTurns([request.plain]); // to be transferred; the original may be a part of other memory
      return this.#thread.ask({ ...request, plain }, [plain.buffer]);
    });
    this.#last = parts.catch(() => {});
    return parts;
  }

  async stop(): Promise<void> {
    await this.#thread.stop();
  }
}

/** Divides a request in this thread. Each part has memory of its own. */
export async function divided({ signal, plain, encoding, maxBytes }: Division): Promise<Part[]> {
  const body = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const pieces =
    maxBytes === undefined
      ? splitRequest(signal, body)
      : cutRequest(signal, body, () => maxBytes, MAX_GROWTH * body.byteLength);
  const parts: Part[] = [];
  for (const piece of pieces ?? []) {
    const { items } = walk(signal, piece);
    parts.push({ bytes: new Uint8Array(await encodeContent(piece, encoding)), items });
  }
  return parts;
}
