import { FieldCursor } from './fields.ts';
import type { Signal } from './signal.ts';

/** From request to item: fields of each level that lead to items. Metrics have two levels more. */
export const LEVELS: Readonly<Record<Signal, readonly (readonly number[])[] | undefined>> = {
  traces: [[1], [2], [2]],
  logs: [[1], [2], [2]],
  metrics: [[1], [2], [2], [5, 7, 9, 10, 11], [1]],
  profiles: undefined,
};

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
  levels: readonly (readonly number[])[],
  level: number,
): [Buffer, Buffer] | undefined {
  const found = lookAt(bytes, start, end, levels, level);
  if (found.children >= 2) return cutBetween(bytes, start, end, levels, level, found);
  if (found.children === 0 || level + 1 >= levels.length) return undefined;
  const halves = split(bytes, found.lastStart, found.lastEnd, levels, level + 1);
  if (!halves) return undefined;
  const others = withoutChildren(bytes, start, end, levels[level]!, found.otherBytes);
  return [
    Buffer.concat([others, ...tagged(found.lastNumber, halves[0])]),
    Buffer.concat([others, ...tagged(found.lastNumber, halves[1])]),
  ];
}

/** What one level of a message contains. */
interface Found {
  /** Number of children that lead to items; others are left out. */
  children: number;
  childBytes: number;
  items: number;
  /** Bytes that do not lead to items. */
  otherBytes: number;
  lastNumber: number;
  lastStart: number;
  lastEnd: number;
}

function lookAt(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: readonly (readonly number[])[],
  level: number,
): Found {
  const found: Found = {
    ...{ children: 0, childBytes: 0, items: 0, otherBytes: 0 },
    ...{ lastNumber: 0, lastStart: 0, lastEnd: 0 },
  };
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    if (!levels[level]!.includes(cursor.number)) {
      found.otherBytes += cursor.end - cursor.tagStart;
      continue;
    }
    const items = itemsOf(bytes, cursor, levels, level);
    if (items === 0) continue;
    found.children++;
    found.childBytes += cursor.end - cursor.tagStart;
    found.items += items;
    found.lastNumber = cursor.number;
    found.lastStart = cursor.start;
    found.lastEnd = cursor.end;
  }
  return found;
}

/**
 * Splits after the number of children, at least one and not all, that comes closest to half of the items. Both halves are in
 * one buffer, each with what describes its children before them.
 */
function cutBetween(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: readonly (readonly number[])[],
  level: number,
  { children, childBytes, items: total, otherBytes }: Found,
): [Buffer, Buffer] {
  const both = Buffer.allocUnsafeSlow(2 * otherBytes + childBytes);
  both.set(withoutChildren(bytes, start, end, levels[level]!, otherBytes));
  let at = otherBytes;
  let before = 0;
  let taken = 0;
  let cut = 0;
  // Adjacent ones are copied together.
  let from = start;
  let to = start;
  const copyRun = () => {
    both.set(bytes.subarray(from, to), at);
    at += to - from;
    from = to;
  };
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    const items = levels[level]!.includes(cursor.number) ? itemsOf(bytes, cursor, levels, level) : 0;
    if (items === 0) continue;
    if (cursor.tagStart !== to) {
      copyRun();
      from = cursor.tagStart;
    }
    to = cursor.end;
    before += items;
    taken++;
    if (cut === 0 && (before * 2 >= total || taken === children - 1)) {
      copyRun();
      cut = at;
      both.copyWithin(at, 0, otherBytes);
      at += otherBytes;
    }
  }
  copyRun();
  return [both.subarray(0, cut), both.subarray(cut)];
}

function withoutChildren(
  bytes: Uint8Array,
  start: number,
  end: number,
  down: readonly number[],
  otherBytes: number,
): Buffer {
  const others = Buffer.allocUnsafe(otherBytes);
  if (otherBytes === 0) return others;
  let at = 0;
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    if (down.includes(cursor.number)) continue;
    others.set(bytes.subarray(cursor.tagStart, cursor.end), at);
    at += cursor.end - cursor.tagStart;
  }
  return others;
}

export function itemsOf(
  bytes: Uint8Array,
  { start, end }: FieldCursor,
  levels: readonly (readonly number[])[],
  level: number,
): number {
  return sumOfItems(bytes, start, end, levels, level + 1, one);
}

const one = () => 1;

/** Bytes of a well-formed request that are not within its items: of resources, scopes and metrics. */
export function describingBytes(signal: Signal, body: Uint8Array): number {
  const levels = LEVELS[signal];
  const bytesOf = (start: number, end: number) => end - start;
  return levels ? body.byteLength - sumOfItems(body, 0, body.byteLength, levels, 0, bytesOf) : 0;
}

/** Sum of `of` over all items. */
function sumOfItems(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: readonly (readonly number[])[],
  level: number,
  of: (start: number, end: number) => number,
): number {
  if (level === levels.length) return of(start, end);
  const down = levels[level]!;
  const areItems = level + 1 === levels.length;
  let sum = 0;
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    if (!down.includes(cursor.number)) continue;
    sum += areItems
      ? of(cursor.start, cursor.end)
      : sumOfItems(bytes, cursor.start, cursor.end, levels, level + 1, of);
  }
  return sum;
}

/** The fields of a message that do not lead to items. */
export function otherFields(bytes: Uint8Array, start: number, end: number, down: readonly number[]): Buffer {
  let otherBytes = 0;
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) if (!down.includes(cursor.number)) otherBytes += cursor.end - cursor.tagStart;
  return withoutChildren(bytes, start, end, down, otherBytes);
}

function tagged(number: number, content: Buffer): Buffer[] {
  const head: number[] = [number * 8 + 2];
  let rest = content.byteLength;
  while (rest >= 0x80) {
    head.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  head.push(rest);
  return [Buffer.from(head), content];
}
