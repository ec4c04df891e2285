import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';

/** Copied in one go: a few ms, including page faults. */
const TURN_BYTES = 4 * 1024 * 1024;

/** TLS encrypts a whole write at once: 60 MiB would block the event loop for 120 ms. Between slices, other work runs. */
const SLICE_BYTES = 1024 * 1024;

/** A body to be written: a large one is a stream of slices. */
export function inSlices<T extends Uint8Array>(body: T): T | Readable {
  return body.byteLength > SLICE_BYTES ? Readable.from(slices(body)) : body;
}

function* slices(body: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < body.byteLength; at += SLICE_BYTES) yield body.subarray(at, at + SLICE_BYTES);
}

/** The same bytes as a Buffer. */
export function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Gives memory back at once instead of with the next collection. The bytes, and all views of the same memory, become empty. */
export function discard({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}

/**
 * Concatenates all parts into new memory, with pauses between slices so that other work runs. The first slice is copied before
 * this returns, so a single part of up to 4 MiB may be a scratch buffer.
 * @param areSpent each part is discarded once it is copied
 */
export async function joinInTurns(
  parts: readonly Uint8Array[],
  areSpent = false,
): Promise<Buffer<ArrayBuffer>> {
  const joined = Buffer.allocUnsafeSlow(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  let left = TURN_BYTES;
  for (const [i, part] of parts.entries()) {
    const { byteLength } = part;
    for (let from = 0; from < byteLength; ) {
      if (left === 0) {
        await turn();
        left = TURN_BYTES;
      }
      const piece = part.subarray(from, from + left);
      joined.set(piece, at);
      at += piece.byteLength;
      from += piece.byteLength;
      left -= piece.byteLength;
    }
    if (areSpent && parts[i + 1]?.buffer !== part.buffer) discard(part);
  }
  return joined;
}

/** Smaller chunks are copied together, because each is an object that costs more than its bytes. */
const SMALL_BYTES = 1024;
const GATHERED_MAX_BYTES = 64 * 1024;
/** Copying more than this at once would block other requests. */
const JOINED_AT_ONCE_BYTES = 1024 * 1024;

/**
 * So many small chunks are taken in one turn of the event loop, and those of the read that is being parsed: at most some ten
 * thousand more. Without a pause, one turn reads 2 MiB of a connection, which took 0.6 s in chunks of a byte.
 */
const SMALL_PER_TURN = 1_024;

/** A connection. */
interface Source {
  pause(): unknown;
  resume(): unknown;
}

/** Pauses a connection for a turn after many small chunks. */
export class Pace {
  readonly #source: Source | undefined;
  /** Small chunks since the last pause. */
  #small = 0;

  constructor(source: Source | undefined) {
    this.#source = source;
  }

  took(chunk: Uint8Array): void {
    if (chunk.byteLength >= SMALL_BYTES || ++this.#small !== SMALL_PER_TURN) return;
    this.#source?.pause();
    setImmediate(() => {
      this.#small = 0;
      this.#source?.resume();
    });
  }
}

/** A body as it arrives; each of its bytes may come as a chunk of its own. */
export class Chunks {
  byteLength = 0;
  readonly #pace: Pace;
  #chunks: Buffer[] = [];
  /** Small chunks that are not in `#chunks` yet. */
  #gathered = Buffer.alloc(0);
  #gatheredBytes = 0;

  /** @param source is paused for a turn after many small chunks */
  constructor(source?: Source) {
    this.#pace = new Pace(source);
  }

  add(chunk: Buffer): void {
    const isFirst = this.byteLength === 0;
    this.byteLength += chunk.byteLength;
    if (isFirst || chunk.byteLength >= SMALL_BYTES) {
      this.#flush();
      this.#chunks.push(chunk);
      return;
    }
    this.#pace.took(chunk);
    if (this.#gatheredBytes + chunk.byteLength > GATHERED_MAX_BYTES) this.#flush();
    const end = this.#gatheredBytes + chunk.byteLength;
    if (end > this.#gathered.byteLength) {
      const grown = Buffer.allocUnsafe(Math.min(2 * end, GATHERED_MAX_BYTES));
      this.#gathered.copy(grown, 0, 0, this.#gatheredBytes);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered, this.#gatheredBytes);
    this.#gatheredBytes = end;
  }

  /** Everything that has arrived; a large body is copied with pauses, as by `joinInTurns`. */
  join(): Buffer | Promise<Buffer> {
    this.#flush();
    if (this.#chunks.length === 1) return this.#chunks[0]!;
    if (this.byteLength <= JOINED_AT_ONCE_BYTES) return Buffer.concat(this.#chunks, this.byteLength);
    return joinInTurns(this.#chunks);
  }

  clear(): void {
    this.#chunks = [];
    this.#gathered = Buffer.alloc(0);
    this.#gatheredBytes = 0;
  }

  #flush(): void {
    if (this.#gatheredBytes === 0) return;
    this.#chunks.push(this.#gathered.subarray(0, this.#gatheredBytes));
    this.#gathered = Buffer.alloc(0);
    this.#gatheredBytes = 0;
  }
}
