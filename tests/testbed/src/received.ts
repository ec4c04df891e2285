/** What arrived at an upstream: counted, compared by id, and checked for damage. Memory: one bit per item. */

import {
  CHECKSUM_OFFSET,
  checksum,
  classOfCode,
  codeAt,
  SPAN_ID_BYTES,
  sequenceAt,
  signalOfCode,
  TEST_CLASSES,
  TEST_SIGNALS,
  type TestClass,
  type TestSignal,
  TRACE_ID_BYTES,
} from './identity.ts';
import { type FoundItem, readJson, readProtobuf } from './item-reader.ts';
import { LatencyHistogram, type LatencySummary } from './latency.ts';
import { type FlatRanges, SequenceSet } from './sequence-set.ts';
import { Streams } from './streams.ts';

export interface ReceivedStats {
  items: number;
  bySignal: Record<TestSignal, number>;
  byClass: Record<TestClass | 'none', number>;
  /** Items that had arrived before. */
  duplicates: number;
  /** Items whose ids do not agree with each other, or whose bytes are not those that were sent. */
  corrupted: number;
  /** Items that no generator made. */
  foreign: number;
  /** Items under another signal than they were sent with. */
  misplaced: number;
  /** Requests with items of more than one class: a request has one, so some of them were sent as another. */
  mixedClasses: number;
  /** From when an item was due to be sent until it arrived. */
  latency: LatencySummary;
  latencyBySignal: Record<TestSignal, LatencySummary>;
  /** Sum of delta sums and histogram sums. */
  deltaSum: number;
  /** Distinct metric streams (protobuf only). */
  streams: number;
  runs: number[];
}

const MAX_RUNS = 1_000;

export class Received {
  readonly #runs = new Map<number, SequenceSet>();
  readonly #latencies: Record<TestSignal, LatencyHistogram> = {
    traces: new LatencyHistogram(),
    metrics: new LatencyHistogram(),
    logs: new LatencyHistogram(),
  };
  #bySignal: Record<TestSignal, number> = { traces: 0, metrics: 0, logs: 0 };
  #byClass: Record<TestClass | 'none', number> = { critical: 0, high: 0, normal: 0, none: 0 };
  #duplicates = 0;
  #corrupted = 0;
  #foreign = 0;
  #misplaced = 0;
  #mixedClasses = 0;
  /** Classes in the request that is being read, as bits. */
  #classes = 0;
  #deltaSum = 0;
  readonly #streams = new Streams();
  readonly #encodedAnew: boolean;

  /** @param encodedAnew what comes was taken apart on its way: items are known by their ids, not by their bytes */
  constructor(encodedAnew = false) {
    this.#encodedAnew = encodedAnew;
  }

  /**
   * Takes a decompressed request.
   * @returns its items
   * @throws when it cannot be read
   */
  take(signal: TestSignal, body: Buffer, format: 'protobuf' | 'json', nowMs: number): number {
    if (format === 'json') return this.#takeJson(signal, body);
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    let items = 0;
    this.#classes = 0;
    this.#deltaSum += readProtobuf(signal, body, (item) => {
      items += 1;
      this.#takeItem(signal, view, item, nowMs);
    });
    if ((this.#classes & (this.#classes - 1)) !== 0) this.#mixedClasses += 1;
    if (signal === 'metrics') this.#streams.take(body);
    this.#bySignal[signal] += items;
    return items;
  }

  /** The sequences of a run that arrived. */
  of(run: number): SequenceSet {
    return this.#runs.get(run) ?? new SequenceSet();
  }

  flat(run: number): { ranges: FlatRanges; truncated: boolean } {
    return this.of(run).toFlat();
  }

  stats(): ReceivedStats {
    const latency = new LatencyHistogram();
    for (const signal of TEST_SIGNALS) latency.merge(this.#latencies[signal]);
    const { traces, metrics, logs } = this.#latencies;
    return {
      items: TEST_SIGNALS.reduce((sum, signal) => sum + this.#bySignal[signal], 0),
      bySignal: { ...this.#bySignal },
      byClass: { ...this.#byClass },
      duplicates: this.#duplicates,
      corrupted: this.#corrupted,
      foreign: this.#foreign,
      misplaced: this.#misplaced,
      mixedClasses: this.#mixedClasses,
      latency: latency.summary(),
      latencyBySignal: { traces: traces.summary(), metrics: metrics.summary(), logs: logs.summary() },
      deltaSum: this.#deltaSum,
      streams: this.#streams.size,
      runs: [...this.#runs.keys()],
    };
  }

  #takeItem(signal: TestSignal, view: DataView, item: FoundItem, nowMs: number): void {
    const { traceId, spanId } = item;
    const code =
      traceId >= 0 && traceId + TRACE_ID_BYTES <= view.byteLength && spanId + SPAN_ID_BYTES <= view.byteLength
        ? codeAt(view, traceId)
        : -1;
    if (code < 0 || spanId < 0) {
      this.#foreign += 1;
      return;
    }
    const sequence = sequenceAt(view, traceId, spanId);
    if (sequence < 0 || !this.#intact(signal, view, item)) {
      this.#corrupted += 1;
      return;
    }
    if (signalOfCode(code) !== signal) this.#misplaced += 1;
    const sentAs = classOfCode(code);
    this.#byClass[sentAs ?? 'none'] += 1;
    if (sentAs) this.#classes |= 1 << TEST_CLASSES.indexOf(sentAs);
    this.#latencies[signal].record(nowMs - item.sentMs);
    this.#remember(view.getUint32(traceId + 4), sequence);
  }

  /** A limiter may rewrite data points; spans and log records are nobody's to change. */
  #intact(signal: TestSignal, view: DataView, { traceId, start, end }: FoundItem): boolean {
    if (signal === 'metrics' || this.#encodedAnew) return true;
    const stored = view.getUint32(traceId + CHECKSUM_OFFSET);
    view.setUint32(traceId + CHECKSUM_OFFSET, 0);
    const found = checksum(view, start, end);
    view.setUint32(traceId + CHECKSUM_OFFSET, stored);
    return found === stored;
  }

  #takeJson(signal: TestSignal, body: Buffer): number {
    const ids = readJson(signal, body);
    for (const { traceId, spanId } of ids) {
      if (!/^[0-9a-f]{32}$/i.test(traceId) || !/^[0-9a-f]{16}$/i.test(spanId)) {
        this.#foreign += 1;
        continue;
      }
      const bytes = Buffer.from(traceId + spanId, 'hex');
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const code = codeAt(view, 0);
      const sequence = code < 0 ? -1 : sequenceAt(view, 0, TRACE_ID_BYTES);
      if (code < 0) this.#foreign += 1;
      else if (sequence < 0) this.#corrupted += 1;
      else {
        this.#byClass[classOfCode(code) ?? 'none'] += 1;
        this.#remember(view.getUint32(4), sequence);
      }
    }
    this.#bySignal[signal] += ids.length;
    return ids.length;
  }

  #remember(run: number, sequence: number): void {
    let seen = this.#runs.get(run);
    if (seen === undefined) {
      if (this.#runs.size >= MAX_RUNS) this.#runs.delete(this.#runs.keys().next().value!);
      seen = new SequenceSet();
      this.#runs.set(run, seen);
    }
    if (!seen.add(sequence)) this.#duplicates += 1;
  }
}
