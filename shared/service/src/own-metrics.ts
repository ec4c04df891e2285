import { WireWriter } from '@nrdot/otlp';
import type { MetricFamily, Series } from '@nrdot/telemetry';

export type Temporality = 'cumulative' | 'delta';

export interface OwnMetricsOptions {
  /** Attributes of the resource. */
  resource: Readonly<Record<string, string | number>>;
  /** Name and version of the instrumentation scope. */
  scope: { name: string; version: string };
  temporality: Temporality;
  /** Start of the process's counters, Unix ms. */
  startedAtMs: number;
}

/** One request with all metrics of a process. */
export interface OwnMetricsRequest {
  /** An `ExportMetricsServiceRequest`; valid until the next one is made. */
  body: Buffer;
  points: number;
  /** To be called when it was accepted: the next deltas start from here. */
  delivered(): void;
}

/** Last delivered values of a series. */
interface Told {
  value: number;
  counts?: readonly number[];
}

const TEMPORALITY = { delta: 1, cumulative: 2 } as const;
const SIZE_HINT = 64 * 1024;

/**
 * Encodes the metrics of a process as OTLP. Deltas are relative to the last accepted request, so the request after a failed one
 * includes its deltas.
 */
export class OwnMetrics {
  readonly #o: OwnMetricsOptions;
  readonly #writer = new WireWriter(SIZE_HINT);
  #told = new Map<string, Told>();
  #toldAtMs: number;
  #knowsRedis = false;

  constructor(options: OwnMetricsOptions) {
    this.#o = options;
    this.#toldAtMs = options.startedAtMs;
  }

  /** @param wallMs Unix ms; if the clock was set back, points are dated right after the last accepted ones */
  request(families: readonly MetricFamily[], wallMs: number): OwnMetricsRequest {
    const nowMs = Math.max(wallMs, this.#toldAtMs + 1);
    const isDelta = this.#o.temporality === 'delta';
    if (isDelta && !this.#knowsRedis) this.#beginWithRedis(families);
    const telling = new Map<string, Told>();
    const startMs = isDelta ? this.#toldAtMs : this.#o.startedAtMs;
    const times = { startMs, nowMs, temporality: TEMPORALITY[this.#o.temporality] };
    let points = 0;
    const writer = this.#writer;
    writer.truncate(0);
    message(writer, 1, () => {
      message(writer, 1, () => {
        for (const [name, value] of Object.entries(this.#o.resource)) attribute(writer, 1, name, value);
      });
      message(writer, 2, () => {
        message(writer, 1, () => {
          text(writer, 1, this.#o.scope.name);
          text(writer, 2, this.#o.scope.version);
        });
        for (const family of families) {
          const finite = family.series.filter(({ value }) => Number.isFinite(value));
          const series = isDelta && family.type !== 'gauge' ? this.#deltas(family, finite, telling) : finite;
          if (series.length > 0) writeMetric(writer, family, series, times);
          points += series.length;
        }
      });
    });
    return {
      body: writer.finish(),
      points,
      delivered: () => {
        this.#told = telling;
        this.#toldAtMs = nowMs;
      },
    };
  }

  /**
   * Deltas since the last accepted request. A series begins with its first count, since most possible series never have one.
   */
  #deltas({ name, whole }: MetricFamily, series: readonly Series[], telling: Map<string, Told>): Series[] {
    if (whole && !this.#knowsRedis) return [];
    return series.flatMap((now) => {
      const key = keyOf(name, now);
      const before = this.#told.get(key);
      const hasCounted = now.value !== 0 || now.buckets?.counts.some((count) => count > 0);
      if (!before && !hasCounted) return [];
      telling.set(key, toldOf(now));
      return [difference(now, before)];
    });
  }

  /**
   * Totals that Redis had before this process first read them were reported by others, or by nobody. Series that do not exist
   * then count from 0.
   */
  #beginWithRedis(families: readonly MetricFamily[]): void {
    const whole = families.filter((family) => family.whole);
    // Series with labels exist once Redis was read.
    if (!whole.some(({ series }) => series.some(({ labels }) => Object.keys(labels).length > 0))) return;
    this.#knowsRedis = true;
    for (const { name, type, series } of whole)
      if (type === 'counter') for (const now of series) this.#told.set(keyOf(name, now), toldOf(now));
  }
}

function keyOf(name: string, { labels }: Series): string {
  return [name, ...Object.values(labels)].join('\0');
}

function toldOf({ value, buckets }: Series): Told {
  return { value, ...(buckets ? { counts: buckets.counts } : {}) };
}

/** A total that has decreased was reset: all of it is new. */
function difference(now: Series, before: Told | undefined): Series {
  if (!before || now.value < before.value) return now;
  const value = now.value - before.value;
  if (!now.buckets) return { labels: now.labels, value };
  const counts = now.buckets.counts.map((count, i) => count - (before.counts?.[i] ?? 0));
  return { labels: now.labels, value, buckets: { bounds: now.buckets.bounds, counts } };
}

interface Times {
  startMs: number;
  nowMs: number;
  temporality: number;
}

function writeMetric(
  writer: WireWriter,
  { type, name, help, whole }: MetricFamily,
  series: readonly Series[],
  { startMs, nowMs, temporality }: Times,
): void {
  // The start of a total in Redis is unknown: 0 says so. A delta begins at the previous one.
  const hasStart = type !== 'gauge' && !(whole && temporality === TEMPORALITY.cumulative);
  message(writer, 2, () => {
    text(writer, 1, name);
    text(writer, 2, help);
    text(writer, 3, unitOf(name));
    message(writer, { gauge: 5, counter: 7, histogram: 9 }[type], () => {
      for (const each of series) writePoint(writer, each, hasStart ? startMs : 0, nowMs);
      if (type === 'gauge') return;
      writer.byte(tag(2, VARINT));
      writer.varint(temporality);
      if (type === 'histogram') return;
      writer.byte(tag(3, VARINT));
      writer.byte(1);
    });
  });
}

function writePoint(writer: WireWriter, { labels, value, buckets }: Series, startMs: number, nowMs: number) {
  message(writer, 1, () => {
    if (startMs > 0) time(writer, 2, startMs);
    time(writer, 3, nowMs);
    if (buckets) {
      const { bounds, counts } = buckets;
      const total = counts.reduce((sum, of) => sum + of, 0);
      writer.byte(tag(4, FIXED64));
      count(writer, total);
      writer.byte(tag(5, FIXED64));
      writer.double(value);
      message(writer, 6, () => {
        for (const of of counts) count(writer, of);
      });
      message(writer, 7, () => {
        for (const bound of bounds) writer.double(bound);
      });
    } else {
      writer.byte(tag(4, FIXED64));
      writer.double(value);
    }
    for (const [name, label] of Object.entries(labels))
      attribute(writer, buckets ? 9 : 7, name, String(label));
  });
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const TWO_TO_32 = 2 ** 32;

/** All field numbers here are below 16, so a tag is one byte. */
function tag(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

function message(writer: WireWriter, field: number, write: () => void): void {
  writer.byte(tag(field, BYTES));
  const opened = writer.open();
  write();
  writer.close(opened);
}

function text(writer: WireWriter, field: number, value: string): void {
  if (value === '') return;
  writer.byte(tag(field, BYTES));
  writer.text(value);
}

/** A `KeyValue`. */
function attribute(writer: WireWriter, field: number, name: string, value: string | number): void {
  message(writer, field, () => {
    text(writer, 1, name);
    message(writer, 2, () => {
      writer.byte(tag(typeof value === 'string' ? 1 : 3, typeof value === 'string' ? BYTES : VARINT));
      if (typeof value === 'string') writer.text(value);
      else writer.varint(value);
    });
  });
}

function time(writer: WireWriter, field: number, ms: number): void {
  writer.byte(tag(field, FIXED64));
  const ns = BigInt(ms) * 1_000_000n;
  writer.fixed64(Number(ns & 0xffff_ffffn), Number(ns >> 32n));
}

function count(writer: WireWriter, value: number): void {
  writer.fixed64(value % TWO_TO_32, Math.floor(value / TWO_TO_32));
}

/** The UCUM unit, from the suffix of the name. */
function unitOf(name: string): string {
  if (/_seconds(_total)?$/.test(name)) return 's';
  if (/_bytes(_total)?$/.test(name)) return 'By';
  return name.endsWith('_ratio') ? '1' : '';
}
