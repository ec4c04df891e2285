import { FieldCursor } from './fields.ts';
import { discard } from './join.ts';
import type { Signal } from './signal.ts';
import { WireWriter } from './wire-writer.ts';

/** From request to item: fields of each level that lead to items. Metrics have two levels more. */
type Levels = readonly (readonly number[])[];
const LEVELS: Readonly<Record<Signal, Levels | undefined>> = {
  traces: [[1], [2], [2]],
  logs: [[1], [2], [2]],
  metrics: [[1], [2], [2], [5, 7, 9, 10, 11], [1]],
  profiles: undefined,
};

/** Maximum size of a tag and a length. */
const HEAD_MAX_BYTES = 6;
/** Maximum size of those of all messages around an item. */
export const HEADS_MAX_BYTES = 5 * HEAD_MAX_BYTES;

/**
 * Splits a well-formed request into two with about half of the items each: between resources if there are several, else between
 * scopes, metrics, and finally items. What describes them is copied into both; bytes are copied, not decoded.
 * @returns undefined if there is only one item
 */
export function splitRequest(signal: Signal, body: Uint8Array): [Buffer, Buffer] | undefined {
  const levels = LEVELS[signal];
  return levels && split(body, 0, body.byteLength, levels, 0);
}

/** No item becomes an object, since there may be millions: only a few numbers are kept while splitting. */
function split(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: Levels,
  level: number,
): [Buffer, Buffer] | undefined {
  const down = levels[level]!;
  const last = { number: 0, start: 0, end: 0 };
  let children = 0;
  let total = 0;
  const cursor = new FieldCursor(bytes, start, end);
  while (cursor.next()) {
    const items = down.includes(cursor.number) ? itemsOf(bytes, cursor, levels, level) : 0;
    if (items === 0) continue; // left out
    children++;
    total += items;
    last.number = cursor.number;
    last.start = cursor.start;
    last.end = cursor.end;
  }
  const isItem = level + 1 === levels.length;
  if (children === 0 || (children === 1 && isItem)) return undefined;
  const below = children === 1 ? split(bytes, last.start, last.end, levels, level + 1) : undefined;
  if (children === 1 && !below) return undefined;
  const halves = new Filled(bytes, otherFields(bytes, start, end, down), 0);
  if (below) {
    halves.message(last.number, below[0]);
    halves.next();
    halves.message(last.number, below[1]);
    return halves.end() as [Buffer, Buffer];
  }
  // The cut is after the number of children, at least one and not all, that comes closest to half of the items.
  let before = 0;
  let taken = 0;
  let isCut = false;
  cursor.reset(bytes, start, end);
  while (cursor.next()) {
    const items = down.includes(cursor.number) ? itemsOf(bytes, cursor, levels, level) : 0;
    if (items === 0) continue;
    halves.field(cursor.tagStart, cursor.end);
    before += items;
    taken++;
    if (isCut || (before * 2 < total && taken < children - 1)) continue;
    halves.next();
    isCut = true;
  }
  return halves.end() as [Buffer, Buffer];
}

/**
 * Cuts a well-formed request into pieces, in order and in one pass: each is filled up to its size, and gets a copy of what
 * describes its items. A larger item is a piece by itself; parts without items are left out. A request of little else than one
 * item is its own piece: the same buffer.
 * @param sizeOf maximum size of a piece whose items are described by so many bytes; must not decrease
 * @param maxBytes maximum size of all pieces together, approximately: each copy counts as a few bytes more
 * @returns undefined if they would be larger
 */
export function cutRequest(
  signal: Signal,
  body: Buffer,
  sizeOf: (describing: number) => number,
  maxBytes: number,
): Buffer[] | undefined {
  const levels = LEVELS[signal];
  if (!levels || body.byteLength <= sizeOf(0)) return [body];
  if (isOneItem(body, levels, sizeOf(0))) return [body];
  let growthLeft = maxBytes - body.byteLength;

  /** Begins a new piece unless the data fits. */
  const nextUnlessFits = (filled: Filled, bytes: number, describing: number) => {
    if (filled.fits(bytes)) return;
    growthLeft -= describing;
    filled.next();
  };

  /** Cuts one message. @param above bytes that describe it and are repeated in each piece */
  const pieces = (start: number, end: number, level: number, above: number): Buffer[] | undefined => {
    const down = levels[level]!;
    const others = otherFields(body, start, end, down);
    const describing = above + others.byteLength + HEAD_MAX_BYTES;
    const room = Math.max(0, sizeOf(describing) - describing);
    const filled = new Filled(body, others, room);
    const areItems = level + 1 === levels.length;
    const cursor = new FieldCursor(body, start, end);
    while (cursor.next()) {
      if (!down.includes(cursor.number)) continue;
      const bytes = cursor.end - cursor.tagStart;
      if (!areItems && bytes > room) {
        const parts = pieces(cursor.start, cursor.end, level + 1, describing);
        if (!parts) return undefined;
        for (const [i, part] of parts.entries()) {
          if (i > 0)
            filled.next(); // counted where it was cut
          else nextUnlessFits(filled, part.byteLength + HEAD_MAX_BYTES, describing);
          filled.message(cursor.number, part);
          discard(part); // one large item is copied at each level
        }
      } else if (areItems || itemsOf(body, cursor, levels, level) > 0) {
        nextUnlessFits(filled, bytes, describing);
        filled.field(cursor.tagStart, cursor.end);
      }
      if (growthLeft < 0) return undefined;
    }
    return filled.end();
  };

  return pieces(0, body.byteLength, 0, 0);
}

/** Pieces that are filled one after the other. Adjacent fields are copied together, since there may be millions. */
class Filled {
  readonly #source: Uint8Array;
  readonly #others: Buffer;
  readonly #room: number;
  readonly #pieces: Buffer[] = [];
  #out: WireWriter | undefined;
  #taken = 0;
  /** Start of the range to copy. */
  #from = 0;
  #to = 0;

  constructor(source: Uint8Array, others: Buffer, room: number) {
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

/** The fields of a message that do not lead to items. */
function otherFields(bytes: Uint8Array, start: number, end: number, down: readonly number[]): Buffer {
  let otherBytes = 0;
  const cursor = new FieldCursor(bytes, start, end);
  while (cursor.next()) if (!down.includes(cursor.number)) otherBytes += cursor.end - cursor.tagStart;
  const others = Buffer.allocUnsafe(otherBytes);
  let at = 0;
  cursor.reset(bytes, start, end);
  while (at < otherBytes && cursor.next()) {
    if (down.includes(cursor.number)) continue;
    others.set(bytes.subarray(cursor.tagStart, cursor.end), at);
    at += cursor.end - cursor.tagStart;
  }
  return others;
}

function itemsOf(bytes: Uint8Array, { start, end }: FieldCursor, levels: Levels, level: number): number {
  return countItems(bytes, start, end, levels, level + 1);
}

/** Whether a request is one large item, and at most `otherBytes` besides it; examines no more than these. */
function isOneItem(body: Buffer, levels: Levels, otherBytes: number): boolean {
  const large = { start: 0, end: body.byteLength };
  let left = otherBytes;
  for (const down of levels) {
    const cursor = new FieldCursor(body, large.start, large.end);
    let isFound = false;
    while (cursor.next()) {
      if (!isFound && down.includes(cursor.number) && cursor.end - cursor.start > otherBytes) {
        isFound = true;
        large.start = cursor.start;
        large.end = cursor.end;
      } else left -= cursor.end - cursor.tagStart;
      if (left < 0) return false;
    }
    if (!isFound) return false;
  }
  return countItems(body, 0, body.byteLength, levels, 0) === 1;
}

function countItems(bytes: Uint8Array, start: number, end: number, levels: Levels, level: number): number {
  if (level === levels.length) return 1;
  const down = levels[level]!;
  const areItems = level + 1 === levels.length;
  let items = 0;
  const cursor = new FieldCursor(bytes, start, end);
  while (cursor.next()) {
    if (!down.includes(cursor.number)) continue;
    items += areItems ? 1 : countItems(bytes, cursor.start, cursor.end, levels, level + 1);
  }
  return items;
}
