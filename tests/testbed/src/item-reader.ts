/** Finds items and their ids in a request, independently of the product's own reader. */

import type { TestSignal } from './identity.ts';

/** Offsets into the body; -1 where there is none. */
export interface FoundItem {
  start: number;
  end: number;
  traceId: number;
  spanId: number;
  sentMs: number;
}

/** Field numbers from request to item, of its ids, and of the time it carries. */
const PATHS = {
  traces: { down: [1, 2, 2], traceId: 1, spanId: 2, time: 8 },
  logs: { down: [1, 2, 2], traceId: 9, spanId: 10, time: 11 },
  metrics: { down: [1, 2, 2], traceId: 5, spanId: 4, time: 3 },
} as const;

const METRIC_DATA = new Map([
  [5, { exemplars: 5, sum: 0, value: 4 }],
  [7, { exemplars: 5, sum: 0, value: 4 }],
  [9, { exemplars: 8, sum: 5, value: 0 }],
  [10, { exemplars: 11, sum: 5, value: 0 }],
  [11, { exemplars: 0, sum: 0, value: 0 }],
]);
const DELTA = 1;

/**
 * Visits each item of a protobuf request.
 * @returns the sum over its delta sums and histograms
 * @throws when the bytes end too early
 */
export function readProtobuf(signal: TestSignal, body: Buffer, visit: (item: FoundItem) => void): number {
  const { down } = PATHS[signal];
  let deltaSum = 0;
  each(body, 0, body.byteLength, (number, start, end) => {
    if (number !== down[0]) return;
    each(body, start, end, (inner, scopeStart, scopeEnd) => {
      if (inner !== down[1]) return;
      each(body, scopeStart, scopeEnd, (leaf, itemStart, itemEnd) => {
        if (leaf !== down[2]) return;
        if (signal === 'metrics') deltaSum += readMetric(body, itemStart, itemEnd, visit);
        else visit(readItem(signal, body, itemStart, itemEnd));
      });
    });
  });
  return deltaSum;
}

function readItem(signal: 'traces' | 'logs', body: Buffer, start: number, end: number): FoundItem {
  const path = PATHS[signal];
  const item: FoundItem = { start, end, traceId: -1, spanId: -1, sentMs: 0 };
  each(body, start, end, (number, from, to) => {
    if (number === path.traceId && to - from === 16) item.traceId = from;
    else if (number === path.spanId && to - from === 8) item.spanId = from;
    else if (number === path.time) item.sentMs = timeAt(body, from);
  });
  return item;
}

function readMetric(body: Buffer, start: number, end: number, visit: (item: FoundItem) => void): number {
  let sum = 0;
  each(body, start, end, (number, dataStart, dataEnd) => {
    const kind = METRIC_DATA.get(number);
    if (kind === undefined) return;
    let temporality = 0;
    let points = 0;
    each(body, dataStart, dataEnd, (field, from, to) => {
      if (field === 2) temporality = body[from]!;
      if (field !== 1) return;
      const item: FoundItem = { start: from, end: to, traceId: -1, spanId: -1, sentMs: 0 };
      each(body, from, to, (part, partStart, partEnd) => {
        if (part === PATHS.metrics.time) item.sentMs = timeAt(body, partStart);
        else if (part === kind.exemplars && item.traceId < 0) readExemplar(body, partStart, partEnd, item);
        if (part === kind.value || part === kind.sum) points += body.readDoubleLE(partStart);
        else if (part === 6 && kind.value === 4) points += Number(body.readBigInt64LE(partStart));
      });
      visit(item);
    });
    if (temporality === DELTA) sum += points;
  });
  return sum;
}

function readExemplar(body: Buffer, start: number, end: number, item: FoundItem): void {
  each(body, start, end, (number, from, to) => {
    if (number === PATHS.metrics.traceId && to - from === 16) item.traceId = from;
    else if (number === PATHS.metrics.spanId && to - from === 8) item.spanId = from;
  });
}

/** Visits the fields of a message: number, and where the content lies. */
export function each(
  body: Buffer,
  start: number,
  end: number,
  visit: (number: number, from: number, to: number) => void,
): void {
  let at = start;
  const varint = (): number => {
    let value = 0;
    let factor = 1;
    while (true) {
      if (at >= end) throw new Error(`the request ends in the middle of a field, at byte ${at}`);
      const byte = body[at++]!;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  while (at < end) {
    const tag = varint();
    const wireType = tag % 8;
    let from = at;
    if (wireType === 0) varint();
    else if (wireType === 1) at += 8;
    else if (wireType === 5) at += 4;
    else if (wireType === 2) {
      const length = varint();
      from = at;
      at += length;
    } else throw new Error(`wire type ${wireType} at byte ${from}`);
    if (at > end) throw new Error(`the request ends in the middle of a field, at byte ${from}`);
    visit(Math.floor(tag / 8), from, at);
  }
}

function timeAt(body: Buffer, at: number): number {
  return (body.readUInt32LE(at + 4) * 4294967296 + body.readUInt32LE(at)) / 1e6;
}

/** The ids of each item of a JSON request; empty texts where there are none. */
export function readJson(signal: TestSignal, body: Buffer): { traceId: string; spanId: string }[] {
  const list = (value: unknown, key: string): Record<string, unknown>[] => {
    const child = (value as Record<string, unknown> | undefined)?.[key];
    return Array.isArray(child) ? (child as Record<string, unknown>[]) : [];
  };
  const ids = (value: Record<string, unknown> | undefined) => ({
    traceId: String(value?.traceId ?? ''),
    spanId: String(value?.spanId ?? ''),
  });
  const request: unknown = JSON.parse(body.toString('utf8'));
  if (signal === 'traces') {
    return list(request, 'resourceSpans').flatMap((r) =>
      list(r, 'scopeSpans').flatMap((s) => list(s, 'spans').map(ids)),
    );
  }
  if (signal === 'logs') {
    return list(request, 'resourceLogs').flatMap((r) =>
      list(r, 'scopeLogs').flatMap((s) => list(s, 'logRecords').map(ids)),
    );
  }
  return list(request, 'resourceMetrics')
    .flatMap((r) => list(r, 'scopeMetrics').flatMap((s) => list(s, 'metrics')))
    .flatMap((metric) =>
      ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'].flatMap((kind) =>
        list(metric[kind], 'dataPoints'),
      ),
    )
    .map((point) => ids(list(point, 'exemplars')[0]));
}
