import { FieldCursor } from './fields.ts';
import type { Signal } from './signal.ts';
import { itemsOf, LEVELS, otherFields } from './split.ts';
import { WireWriter } from './wire-writer.ts';

/** Maximum growth by copies of resources and scopes, as a multiple of the request. */
const MAX_GROWTH = 3;
/** Maximum size of a tag and a length. */
const HEAD_MAX_BYTES = 6;

/**
 * Cuts a well-formed request into pieces, in order and in one pass: each is filled up to its size, and gets a copy of what
 * describes its items. A larger item is a piece by itself; parts without items are left out.
 * @param sizeOf maximum size of a piece whose items are described by so many bytes; must not decrease
 */
export function cutRequest(signal: Signal, body: Buffer, sizeOf: (describing: number) => number): Buffer[] {
  const levels = LEVELS[signal];
  if (!levels || body.byteLength <= sizeOf(0)) return [body];
  return new Cut(body, levels, sizeOf).pieces(0, body.byteLength, 0, 0);
}

class Cut {
  readonly #bytes: Buffer;
  readonly #levels: readonly (readonly number[])[];
  readonly #sizeOf: (describing: number) => number;
  #growth: number;

  constructor(bytes: Buffer, levels: readonly (readonly number[])[], sizeOf: (describing: number) => number) {
    this.#bytes = bytes;
    this.#levels = levels;
    this.#sizeOf = sizeOf;
    this.#growth = bytes.byteLength * MAX_GROWTH;
  }

  /**
   * Cuts one message into several, with its items in order.
   * @param above bytes that describe it and are repeated in each piece
   */
  pieces(start: number, end: number, level: number, above: number): Buffer[] {
    const others = otherFields(this.#bytes, start, end, this.#levels[level]!);
    const describing = above + others.byteLength + HEAD_MAX_BYTES;
    const room = Math.max(0, this.#sizeOf(describing) - describing);
    const filled = new Filled(this.#bytes, others, room);
    const areItems = level + 1 === this.#levels.length;
    const cursor = new FieldCursor().reset(this.#bytes, start, end);
    while (cursor.next()) {
      if (!this.#levels[level]!.includes(cursor.number)) continue;
      const bytes = cursor.end - cursor.tagStart;
      if (!areItems && bytes > room) {
        const parts = this.pieces(cursor.start, cursor.end, level + 1, describing);
        for (const [i, part] of parts.entries()) {
          if (i > 0)
            filled.next(); // counted where it was cut
          else this.#nextUnlessFits(filled, part.byteLength + HEAD_MAX_BYTES, describing);
          filled.message(cursor.number, part);
        }
      } else if (areItems || itemsOf(this.#bytes, cursor, this.#levels, level) > 0) {
        this.#nextUnlessFits(filled, bytes, describing);
        filled.field(cursor.tagStart, cursor.end);
      }
    }
    return filled.end();
  }

  /** Begins a new piece unless the data fits; where copies would exceed the maximum growth, the rest stays together. */
  #nextUnlessFits(filled: Filled, bytes: number, describing: number): void {
    if (filled.fits(bytes) || this.#growth < describing) return;
    this.#growth -= describing;
    filled.next();
  }
}

/** Pieces that are filled one after the other. Adjacent fields are copied together, since there may be millions. */
class Filled {
  readonly #source: Buffer;
  readonly #others: Buffer;
  readonly #room: number;
  readonly #pieces: Buffer[] = [];
  #out: WireWriter | undefined;
  #taken = 0;
  /** Start of the range to copy. */
  #from = 0;
  #to = 0;

  constructor(source: Buffer, others: Buffer, room: number) {
    this.#source = source;
    this.#others = others;
    this.#room = room;
  }

  fits(bytes: number): boolean {
    return this.#taken === 0 || this.#taken + bytes <= this.#room;
  }

  next(): void {
    if (this.#taken === 0) return;
    this.#copy();
    this.#pieces.push(this.#out!.finish());
    this.#out = undefined;
    this.#taken = 0;
  }

  field(from: number, to: number): void {
    if (from !== this.#to) {
      this.#copy();
      this.#from = from;
    }
    this.#to = to;
    this.#taken += to - from;
  }

  message(number: number, content: Buffer): void {
    this.#copy();
    const out = this.#open();
    out.varint(number * 8 + 2);
    out.bytes(content, 0, content.byteLength);
    this.#taken += content.byteLength + HEAD_MAX_BYTES;
  }

  /** @returns all pieces, without the last one if it is empty */
  end(): Buffer[] {
    this.next();
    return this.#pieces;
  }

  #copy(): void {
    if (this.#to > this.#from) this.#open().raw(this.#source, this.#from, this.#to);
    this.#from = this.#to;
  }

  #open(): WireWriter {
    if (this.#out) return this.#out;
    this.#out = new WireWriter(this.#others.byteLength + Math.max(this.#taken, this.#to - this.#from));
    this.#out.raw(this.#others, 0, this.#others.byteLength);
    return this.#out;
  }
}
