/** Makes the batches of a run: which signal and class is next, filled from a template, compressed. */

import { promisify } from 'node:util';
import zlib from 'node:zlib';
import { mix32, TEST_CLASSES, TEST_SIGNALS, type TestClass, type TestSignal } from './identity.ts';
import { fill, SeriesCounter, type Template, template } from './template.ts';
import { METRIC_KINDS, type MetricKind, type Workload } from './workload.ts';

export interface Batch {
  signal: TestSignal;
  class: TestClass | undefined;
  from: number;
  count: number;
  body: Buffer;
  compressed: boolean;
  bodyBytes: number;
  deltaSum: number;
}

/** Templates of one signal, class and size differ in content, so that compression sees some variety. */
const VARIANTS = 4;
const VARIANTS_OF_SMALL = 32;
const SMALL_ITEMS = 20;
/** Sizes other than the batch size come up once, at the end of a run; no need to keep more. */
const MAX_TEMPLATES = 512;
/** Above this zlib's thread pool is worth its overhead. */
const COMPRESS_ASYNC_BYTES = 1024 * 1024;
/** Fast levels: the generator shares the machine with what it measures. */
const GZIP = { level: 1 };
const ZSTD = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } };

export class BatchMaker {
  /** Of every request of the run. */
  readonly headers: Record<string, string>;
  readonly #w: Workload;
  readonly #run: number;
  readonly #mix: Wheel<Stream>;
  readonly #templates = new Map<string, Template>();
  readonly #series = new Map<string, SeriesCounter>();
  #sequence = 0;
  #startUs = 0;

  constructor(w: Workload, run: number) {
    this.#w = w;
    this.#run = run;
    this.#mix = new Wheel(streams(w));
    this.headers = {
      'content-type': w.format === 'json' ? 'application/json' : 'application/x-protobuf',
      'user-agent': 'nrdot-generate',
      ...(w.encoding === 'identity' ? {} : { 'content-encoding': w.encoding }),
      ...w.headers,
    };
    this.#layOutSeries();
    this.startedAt(Date.now());
  }

  startedAt(ms: number): void {
    this.#startUs = Math.round(ms * 1000);
  }

  /** The next batch, uncompressed. `dueMs` is the time its items carry. */
  make(count: number, dueMs: number): Batch {
    const stream = this.#mix.next();
    const { signal, class: cls } = stream;
    const from = this.#sequence;
    this.#sequence += count;
    const { body, deltaSum } = fill(this.#template(stream, count), {
      run: this.#run,
      from,
      sendUs: Math.round(dueMs * 1000),
      startUs: this.#startUs,
      series: (kind) => this.#series.get(`${cls}/${kind}`)!,
      unitValues: this.#w.unitValues,
    });
    return { signal, class: cls, from, count, body, compressed: false, bodyBytes: body.length, deltaSum };
  }

  async compress(batch: Batch): Promise<Buffer> {
    if (batch.compressed || batch.body.length < COMPRESS_ASYNC_BYTES) return this.compressNow(batch);
    switch (this.#w.encoding) {
      case 'identity':
        return batch.body;
      case 'gzip':
        return promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gzip)(batch.body, GZIP);
      case 'deflate':
        return promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.deflate)(batch.body, GZIP);
      case 'zstd':
        return promisify<Buffer, zlib.ZstdOptions, Buffer>(zlib.zstdCompress)(batch.body, ZSTD);
    }
  }

  compressNow(batch: Batch): Buffer {
    if (batch.compressed) return batch.body;
    switch (this.#w.encoding) {
      case 'identity':
        return batch.body;
      case 'gzip':
        return zlib.gzipSync(batch.body, GZIP);
      case 'deflate':
        return zlib.deflateSync(batch.body, GZIP);
      case 'zstd':
        return zlib.zstdCompressSync(batch.body, ZSTD);
    }
  }

  #template(stream: Stream, items: number): Template {
    const { signal, class: cls } = stream;
    const variant = stream.batches % (items <= SMALL_ITEMS ? VARIANTS_OF_SMALL : VARIANTS);
    stream.batches += 1;
    const key = `${signal}/${cls}/${items}/${variant}`;
    let found = this.#templates.get(key);
    if (found === undefined) {
      const { metricIds, metricIdAttribute, metricKinds, format } = this.#w;
      const seed = mix32(this.#w.seed + variant * 7919);
      const options = { signal, class: cls, items, seed, metricIds, metricIdAttribute, metricKinds };
      found = template(options, format);
      if (this.#templates.size >= MAX_TEMPLATES) this.#templates.clear();
      this.#templates.set(key, found);
    }
    return found;
  }

  /** Splits the cardinality among classes and kinds, so that together they have exactly that many key-sets. */
  #layOutSeries(): void {
    const classes = classesOf(this.#w).map(([cls]) => cls);
    const kinds = METRIC_KINDS.filter((kind: MetricKind) => (this.#w.metricKinds[kind] ?? 0) > 0);
    const groups = classes.flatMap((cls) => kinds.map((kind) => `${cls}/${kind}`));
    groups.forEach((group, index) => {
      const share = Math.floor(this.#w.cardinality / groups.length);
      const size = share + (index < this.#w.cardinality % groups.length ? 1 : 0);
      this.#series.set(group, new SeriesCounter(Math.max(1, size), mix32(this.#w.seed)));
    });
  }
}

/** One signal in one class. */
interface Stream {
  signal: TestSignal;
  class: TestClass | undefined;
  weight: number;
  batches: number;
}

/** Signals and classes in one mix: two wheels side by side would turn together, and each class have its own signal. */
function streams(w: Workload): Stream[] {
  return TEST_SIGNALS.flatMap((signal) =>
    classesOf(w).map(([cls, weight]) => {
      return { signal, class: cls, weight: weight * (w.signals[signal] ?? 0), batches: 0 };
    }),
  ).filter((stream) => stream.weight > 0);
}

function classesOf(w: Workload): [TestClass | undefined, number][] {
  const { classes } = w;
  if (classes === undefined) return [[undefined, 1]];
  return TEST_CLASSES.flatMap((cls) => ((classes[cls] ?? 0) > 0 ? [[cls, classes[cls]!]] : []));
}

/** Smooth weighted round-robin (as in nginx): the mix is exact over any full turn, and even within it. */
class Wheel<T extends { weight: number }> {
  readonly #choices: readonly T[];
  readonly #current: number[];
  readonly #total: number;

  constructor(choices: readonly T[]) {
    this.#choices = choices;
    this.#current = choices.map(() => 0);
    this.#total = choices.reduce((sum, { weight }) => sum + weight, 0);
  }

  next(): T {
    let best = 0;
    this.#choices.forEach(({ weight }, i) => {
      this.#current[i] = this.#current[i]! + weight;
      if (this.#current[i]! > this.#current[best]!) best = i;
    });
    this.#current[best] = this.#current[best]! - this.#total;
    return this.#choices[best]!;
  }
}
