import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { field } from '../../../tests/cost/shapes.ts';
import { request, WALKED, type WalkedSignal } from '../test/arbitrary.ts';
import { FieldCursor } from './fields.ts';
import { protobufToJson } from './json-writer.ts';
import { cutRequest, HEADS_MAX_BYTES } from './split.ts';
import { walk } from './walk.ts';

type Tree = { [key: string]: unknown };

const DOWN =
  /^(resourceSpans|resourceLogs|resourceMetrics|scopeSpans|scopeLogs|scopeMetrics|spans|logRecords|metrics|gauge|sum|histogram|exponentialHistogram|summary|dataPoints)$/;

/** Each item with all that describes it, in order. */
function itemsOf(signal: WalkedSignal, body: Uint8Array): string[] {
  const found: string[] = [];
  const visit = (message: Tree, above: Tree[], levels: number) => {
    if (levels === 0) {
      found.push(JSON.stringify([...above, message]));
      return;
    }
    const others = Object.fromEntries(Object.entries(message).filter(([key]) => !DOWN.test(key)));
    for (const [key, children] of Object.entries(message))
      if (DOWN.test(key))
        for (const child of [children].flat() as Tree[]) visit(child, [...above, others], levels - 1);
  };
  visit(JSON.parse(protobufToJson(signal, body)!), [], signal === 'metrics' ? 5 : 3);
  return found;
}

const ITEMS = {
  traces: [[1], [2], [2]],
  logs: [[1], [2], [2]],
  metrics: [[1], [2], [2], [5, 7, 9, 10, 11], [1]],
};

/** Bytes that are not within an item. */
function describingBytes(signal: WalkedSignal, body: Uint8Array): number {
  const itemBytes = (start: number, end: number, [down, ...below]: readonly number[][]): number => {
    let sum = 0;
    const cursor = new FieldCursor(body, start, end);
    while (cursor.next()) {
      if (!down!.includes(cursor.number)) continue;
      sum += below.length > 0 ? itemBytes(cursor.start, cursor.end, below) : cursor.end - cursor.tagStart;
    }
    return sum;
  };
  return body.byteLength - itemBytes(0, body.byteLength, ITEMS[signal]);
}

describe('cutRequest', () => {
  for (const signal of WALKED) {
    it(`cuts ${signal} into pieces that have every item once, in order, with its resource and scope`, () => {
      fc.assert(
        fc.property(request(signal), fc.integer({ min: 1, max: 500 }), ({ bytes }, size) => {
          const sizeOf = (describing: number) => Math.max(size, 2 * describing);
          const pieces = cutRequest(signal, Buffer.from(bytes), sizeOf, Number.POSITIVE_INFINITY)!;
          for (const piece of pieces) {
            const { items } = walk(signal, piece);
            if (items > 1 && pieces.length > 1)
              expect(piece.byteLength).toBeLessThanOrEqual(
                sizeOf(describingBytes(signal, piece) + HEADS_MAX_BYTES),
              );
          }
          expect(pieces.flatMap((piece) => itemsOf(signal, piece))).toEqual(itemsOf(signal, bytes));
        }),
        { numRuns: 300, endOnFailure: true },
      );
    });
  }

  it('cuts as long as all pieces together have no more than a maximum', () => {
    const resource = field(1, field(1, field(1, Buffer.alloc(100, 'x'))));
    const body = field(1, resource, field(2, Buffer.alloc(100, Buffer.from([0x12, 0]))));
    const cut = (maxBytes: number) => cutRequest('logs', body, () => 1, maxBytes);
    expect(cut(50 * 150)).toHaveLength(50);
    expect(cut(50 * 100)).toBeUndefined();
  });
});
