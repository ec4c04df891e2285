import { FieldCursor } from './fields.ts';
import type { Signal } from './signal.ts';

/** From request to item: which fields of each level lead down. Metrics have two levels more than the others. */
const LEVELS: Readonly<Record<Signal, readonly (readonly number[])[] | undefined>> = {
  traces: [[1], [2], [2]],
  logs: [[1], [2], [2]],
  metrics: [[1], [2], [2], [5, 7, 9, 10, 11], [1]],
  profiles: undefined,
};

interface Child {
  /** Tag included. */
  start: number;
  contentStart: number;
  end: number;
  number: number;
  items: number;
}

/** What copies of resources and scopes may add to a request that is divided, in its own size. */
const MAX_GROWTH = 3;

/**
 * Cuts a well-formed request into parts of up to `maxBytes` each; a single item is left as large as it is. Where what describes the
 * items is so large that its copies would make many times the request, nothing is cut: the parts would hardly be smaller.
 */
export function divideRequest(signal: Signal, body: Buffer, maxBytes: number): Buffer[] {
  const parts: Buffer[] = [];
  const left = [body];
  let growth = body.byteLength * MAX_GROWTH;
  for (let part = left.pop(); part; part = left.pop()) {
    const halves = part.byteLength > maxBytes ? splitRequest(signal, part) : undefined;
    if (!halves) {
      parts.push(part);
      continue;
    }
    growth -= halves[0].byteLength + halves[1].byteLength - part.byteLength;
    if (growth < 0) return [body];
    left.push(halves[1], halves[0]);
  }
  return parts;
}

/**
 * Cuts a well-formed request into two, each with about half of the items: between resources if there are several, else
 * between scopes, metrics, and at last items. What describes them is copied into both; bytes are copied, not decoded.
 * @returns undefined when there is but one item
 */
export function splitRequest(signal: Signal, body: Uint8Array): [Buffer, Buffer] | undefined {
  const levels = LEVELS[signal];
  return levels && split(body, 0, body.byteLength, levels, 0);
}

function split(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: readonly (readonly number[])[],
  level: number,
): [Buffer, Buffer] | undefined {
  const { children, others } = partsOf(bytes, start, end, levels, level);
  const full = children.filter((child) => child.items > 0);
  const whole = (child: Child) => bytes.subarray(child.start, child.end);
  if (full.length >= 2) {
    const cut = halfway(full);
    return [
      Buffer.concat([...others, ...full.slice(0, cut).map(whole)]),
      Buffer.concat([...others, ...full.slice(cut).map(whole)]),
    ];
  }
  const [only] = full;
  if (!only || level + 1 >= levels.length) return undefined;
  const halves = split(bytes, only.contentStart, only.end, levels, level + 1);
  if (!halves) return undefined;
  return [
    Buffer.concat([...others, ...tagged(only.number, halves[0])]),
    Buffer.concat([...others, ...tagged(only.number, halves[1])]),
  ];
}

/** Children that lead to items, and everything else. Children without items are left out. */
function partsOf(
  bytes: Uint8Array,
  start: number,
  end: number,
  levels: readonly (readonly number[])[],
  level: number,
): { children: Child[]; others: Uint8Array[] } {
  const down = levels[level]!;
  const children: Child[] = [];
  const others: Uint8Array[] = [];
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    if (!down.includes(cursor.number)) {
      others.push(bytes.subarray(cursor.tagStart, cursor.end));
      continue;
    }
    children.push({
      start: cursor.tagStart,
      contentStart: cursor.start,
      end: cursor.end,
      number: cursor.number,
      items: sumOfItems(bytes, cursor.start, cursor.end, levels, level + 1, () => 1),
    });
  }
  return { children, others };
}

/** How many bytes of a well-formed request are not within its items: of resources, scopes and metrics. */
export function describingBytes(signal: Signal, body: Uint8Array): number {
  const levels = LEVELS[signal];
  const bytesOf = (start: number, end: number) => end - start;
  return levels ? body.byteLength - sumOfItems(body, 0, body.byteLength, levels, 0, bytesOf) : 0;
}

/** Sums up what `of` says of each item. */
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
  let sum = 0;
  const cursor = new FieldCursor().reset(bytes, start, end);
  while (cursor.next()) {
    if (down.includes(cursor.number))
      sum += sumOfItems(bytes, cursor.start, cursor.end, levels, level + 1, of);
  }
  return sum;
}

/** How many of the children, at least one and not all, come nearest to half of the items. */
function halfway(children: readonly Child[]): number {
  const total = children.reduce((sum, child) => sum + child.items, 0);
  let before = 0;
  for (let i = 0; i < children.length - 1; i++) {
    before += children[i]!.items;
    if (before * 2 >= total) return i + 1;
  }
  return children.length - 1;
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
