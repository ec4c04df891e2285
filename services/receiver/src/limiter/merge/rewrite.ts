import type { Label } from '../admission/metric-table.ts';
import { DELTA, GAUGE, HISTOGRAM, SUM } from '../wire/metric-kind.ts';
import { Reader } from '../wire/reader.ts';
import { ReverseWriter } from '../wire/writer.ts';
import { readExponential } from './exponential-block.ts';
import type { HeldPoint } from './held-points.ts';
import {
  CUT,
  type Group,
  KEEP,
  type MetricGroup,
  type MetricNode,
  type Plan,
  type ScopeGroup,
} from './plan.ts';
import type { OutputStream } from './stream.ts';
import { writeEnd, writeExponentialFields, writeHistogramFields, writeNumberFields } from './write-point.ts';

/**
 * Rewrites the request from its end to its beginning, by the plan. Everything else is copied, unknown fields included. A
 * message that loses all its points is removed.
 */
const OVERFLOW_ATTRIBUTE = Buffer.concat([
  Buffer.from([0x0a, 20]),
  Buffer.from('otel.metric.overflow'),
  Buffer.from([0x12, 2, 0x10, 1]),
]);

/** The KeyValue `otel.metric.overflow = true`, without its tag. */
export { OVERFLOW_ATTRIBUTE };

const fieldReader = new Reader();
const labelReader = new Reader();
/** Ranges of the message being copied: (start, end) pairs. */
const runs: number[] = [];

/** Typical size of one point with its resource, scope and metric. */
const HELD_BYTES = 512;

const RESOURCE_METRICS = 1;
const CHILDREN = 2;
/** Field number in the data of a metric. */
const TEMPORALITY = 2;
/** Field numbers in a Resource, and in an EntityRef. */
const ENTITY_REFS = 3;
const ID_KEYS = 3;
const DESCRIPTION_KEYS = 4;

interface Message {
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
}

export function rewriteBody(
  body: Uint8Array,
  plan: Plan,
  streams: readonly OutputStream[],
  cells: Float64Array,
  writer: Uint8Array,
) {
  const capacity = estimateBytes(body, plan, streams);
  return new Rewriter(body, plan, streams, cells, writer, capacity).run();
}

/** Writes a deferred stream as a request of its own. */
export function writeHeld(
  body: Uint8Array,
  plan: Plan,
  { stream, group }: Plan['held'][number],
  cells: Float64Array,
  writer: Uint8Array,
): Omit<HeldPoint, 'parts'> {
  return new Rewriter(body, plan, [stream], cells, writer, HELD_BYTES).alone(group);
}

class Rewriter {
  readonly #body: Uint8Array;
  readonly #plan: Plan;
  readonly #streams: readonly OutputStream[];
  readonly #cells: Float64Array;
  readonly #writer: ReverseWriter;
  /** The KeyValue with the writer of cumulative streams, without its tag. */
  readonly #writerAttribute: Uint8Array;
  /** Range of the point written last, counted from the end. */
  #pointStart = 0;
  #pointEnd = 0;

  constructor(
    body: Uint8Array,
    plan: Plan,
    streams: readonly OutputStream[],
    cells: Float64Array,
    writer: Uint8Array,
    capacityBytes: number,
  ) {
    this.#writerAttribute = writer;
    this.#body = body;
    this.#plan = plan;
    this.#streams = streams;
    this.#cells = cells;
    this.#writer = new ReverseWriter(capacityBytes);
  }

  /** Writes a group with a single point. */
  alone(group: Group): Omit<HeldPoint, 'parts'> {
    this.#group(group);
    const { buffer, byteOffset, length } = this.#writer.finish();
    const bytes = Buffer.from(buffer, byteOffset, length);
    return { bytes, start: length - this.#pointStart, end: length - this.#pointEnd };
  }

  run(): Uint8Array {
    for (const group of [...this.#plan.groups.values()].reverse()) this.#group(group);
    this.#message(0, this.#body.length, this.#plan.resources, RESOURCE_METRICS, (resource) => {
      if (
        this.#losesAll(resource, resource.scopes, (scope) =>
          this.#losesAll(scope, scope.metrics, this.#isGone),
        )
      ) {
        return false;
      }
      this.#message(resource.start, resource.end, resource.scopes, CHILDREN, (scope) => {
        if (this.#losesAll(scope, scope.metrics, this.#isGone)) return false;
        this.#message(scope.start, scope.end, scope.metrics, CHILDREN, (metric) => this.#metric(metric));
        return true;
      });
      return true;
    });
    return this.#writer.finish();
  }

  /** Writes a message: changed children by `write` (false: removed), the rest copied. */
  #message<T extends Message>(
    start: number,
    end: number,
    children: readonly T[],
    field: number,
    write: (child: T) => boolean,
  ): void {
    const writer = this.#writer;
    let cursor = end;
    for (let i = children.length - 1; i >= 0; i--) {
      const child = children[i]!;
      writer.raw(this.#body, child.end, cursor);
      const mark = writer.length;
      if (write(child)) writer.close(field, mark);
      cursor = child.tagStart;
    }
    writer.raw(this.#body, start, cursor);
  }

  /** Whether all children of a message are in the plan and removed. */
  #losesAll<T>(message: Message, children: readonly T[], isGone: (child: T) => boolean): boolean {
    if (!children.every(isGone)) return false;
    let total = 0;
    const reader = new Reader().open(this.#body, message.start, message.end);
    while (reader.next()) if (reader.field === CHILDREN && reader.wire === 2) total++;
    return total === children.length;
  }

  #isGone = (metric: MetricNode): boolean => metric.cuts === metric.points && metric.added === 0;

  #metric(metric: MetricNode): boolean {
    if (this.#isGone(metric)) return false;
    const writer = this.#writer;
    const body = this.#body;
    const { edits } = this.#plan;
    writer.raw(body, metric.dataEnd, metric.end);
    const mark = writer.length;
    let cursor = metric.dataEnd;
    for (let i = metric.to - 3; i >= metric.from; i -= 3) {
      const action = edits[i + 2]!;
      if (action === KEEP) continue;
      writer.raw(body, edits[i + 1]!, cursor);
      if (action !== CUT) this.#stream(this.#streams[action]!);
      cursor = edits[i]!;
    }
    writer.raw(body, metric.dataStart, cursor);
    writer.close(metric.kind, mark);
    writer.raw(body, metric.start, metric.dataTagStart);
    return true;
  }

  #group(group: Group): void {
    const writer = this.#writer;
    const mark = writer.length;
    for (const scope of [...group.scopes.values()].reverse()) this.#scopeGroup(scope);
    const body = this.#body;
    const rest: number[] = []; // triples of (tag start, end, number)
    const fields = new Reader().open(body, group.start, group.end);
    while (fields.next()) {
      if (fields.field !== CHILDREN) rest.push(fields.tagStart, fields.end, fields.field);
    }
    for (let i = rest.length - 3; i >= 0; i -= 3) {
      const [from, to, field] = [rest[i]!, rest[i + 1]!, rest[i + 2]!];
      if (field === 1) {
        const resource = new Reader().open(body, from, to);
        resource.next();
        const inner = writer.length;
        this.#resource(resource.start, resource.end, group.reduction.resourceLabels);
        writer.close(1, inner);
      } else writer.raw(body, from, to);
    }
    writer.close(RESOURCE_METRICS, mark);
  }

  /**
   * A resource without these labels. Its entity references change too: a descriptive key is removed, and an entity that is
   * identified by a removed key is removed as a whole, since it would be another one without it.
   */
  #resource(start: number, end: number, labels: readonly Label[]): void {
    const body = this.#body;
    const touched: (Message & { entity: boolean })[] = [];
    const fields = new Reader().open(body, start, end);
    while (fields.next()) {
      const entity = fields.field === ENTITY_REFS;
      const { tagStart, start: from, end: to } = fields;
      if (entity ? namesLabel(body, from, to, labels) : fields.field === 1 && isLabel(body, from, to, labels))
        touched.push({ tagStart, start: from, end: to, entity });
    }
    this.#message(start, end, touched, ENTITY_REFS, (message) => {
      if (!message.entity || namesLabel(body, message.start, message.end, labels, ID_KEYS)) return false;
      this.#without(
        message.start,
        message.end,
        (field, from, to) => field === DESCRIPTION_KEYS && isKey(body, from, to, labels),
      );
      return true;
    });
  }

  #scopeGroup(scope: ScopeGroup): void {
    const writer = this.#writer;
    const mark = writer.length;
    for (const metric of [...scope.metrics.values()].reverse()) this.#metricGroup(metric);
    this.#without(scope.start, scope.end, (field) => field === CHILDREN);
    writer.close(CHILDREN, mark);
  }

  #metricGroup(metric: MetricGroup): void {
    const writer = this.#writer;
    const mark = writer.length;
    for (let i = metric.streams.length - 1; i >= 0; i--) this.#stream(metric.streams[i]!);
    if (metric.asDelta) {
      writer.varint(DELTA);
      writer.tag(TEMPORALITY, 0);
    }
    this.#without(
      metric.dataStart,
      metric.dataEnd,
      (field) => field === 1 || (metric.asDelta && field === TEMPORALITY),
    );
    writer.close(metric.kind, mark);
    this.#without(metric.start, metric.end, (field) => field === metric.kind);
    writer.close(CHILDREN, mark);
  }

  /** A message without some of its fields. The rest is copied in runs, since usually only a few of many fields are removed. */
  #without(
    from: number,
    to: number,
    isLeftOut: (field: number, start: number, end: number) => boolean,
  ): void {
    runs.length = 0;
    const reader = fieldReader.open(this.#body, from, to);
    let run = from;
    while (reader.next()) {
      if (!isLeftOut(reader.field, reader.start, reader.end)) continue;
      if (reader.tagStart > run) runs.push(run, reader.tagStart);
      run = reader.end;
    }
    this.#writer.raw(this.#body, run, to);
    for (let i = runs.length - 2; i >= 0; i -= 2) this.#writer.raw(this.#body, runs[i]!, runs[i + 1]!);
  }

  /** One point, tag included. */
  #stream(stream: OutputStream): void {
    const writer = this.#writer;
    const body = this.#body;
    const mark = writer.length;
    const { kind, reduction } = stream;
    let replaced: readonly number[] = [];
    if (stream.isEnd) replaced = writeEnd(writer, stream);
    else if (stream.recomputed) {
      if (kind === SUM || kind === GAUGE) replaced = writeNumberFields(writer, stream);
      else if (kind === HISTOGRAM) replaced = writeHistogramFields(writer, stream, this.#cells);
      else {
        const total = stream.exponential?.value ?? readExponential(this.#cells, stream.output!.block);
        replaced = writeExponentialFields(writer, stream, total);
      }
      for (let i = stream.exemplars.length - 2; i >= 0; i -= 2) {
        writer.raw(body, stream.exemplars[i]!, stream.exemplars[i + 1]!);
      }
    }
    const attributes = attributesFieldOf(kind);
    if (reduction.overflow) {
      const inner = writer.length;
      writer.raw(OVERFLOW_ATTRIBUTE, 0, OVERFLOW_ATTRIBUTE.length);
      writer.close(attributes, inner);
    }
    if (stream.isCumulative && !stream.isEnd && !stream.output!.isDelta) {
      const inner = writer.length;
      writer.raw(this.#writerAttribute, 0, this.#writerAttribute.length);
      writer.close(attributes, inner);
    }
    const { overflow, pointLabels } = reduction;
    this.#without(stream.start, stream.end, (field, start, end) => {
      if (field !== attributes) return replaced.includes(field);
      return overflow || isLabel(body, start, end, pointLabels);
    });
    this.#pointEnd = mark;
    this.#pointStart = writer.length;
    writer.close(1, mark);
  }
}

/** Estimated output size; the writer grows if it is too low. */
function estimateBytes(
  body: Uint8Array,
  { edits, editWords }: Plan,
  streams: readonly OutputStream[],
): number {
  let bytes = body.length + 256;
  for (let i = 0; i < editWords; i += 3) if (edits[i + 2] !== KEEP) bytes -= edits[i + 1]! - edits[i]!;
  for (const stream of streams) bytes += stream.end - stream.start + 96;
  return bytes;
}

function attributesFieldOf(kind: number): number {
  return kind === HISTOGRAM ? 9 : kind === SUM || kind === GAUGE ? 7 : 1;
}

/** Whether the key of the KeyValue `body[from, to)` is one of these labels. */
function isLabel(body: Uint8Array, from: number, to: number, labels: readonly Label[]): boolean {
  if (labels.length === 0) return false;
  let start = from;
  let end = from;
  const reader = labelReader.open(body, from, to);
  while (reader.next()) {
    if (reader.field !== 1) continue;
    start = reader.start;
    end = reader.end;
  }
  return isKey(body, start, end, labels);
}

/** Whether the text `body[start, end)` is the key of one of these labels. */
function isKey(body: Uint8Array, start: number, end: number, labels: readonly Label[]): boolean {
  for (const { key } of labels) {
    let i = key.length === end - start ? 0 : -1;
    while (i >= 0 && i < key.length && key[i] === body[start + i]) i++;
    if (i === key.length) return true;
  }
  return false;
}

/**
 * Whether the EntityRef `body[from, to)` names one of these labels, in its identifying keys or also in the descriptive ones.
 */
function namesLabel(
  body: Uint8Array,
  from: number,
  to: number,
  labels: readonly Label[],
  lastField = DESCRIPTION_KEYS,
): boolean {
  const reader = labelReader.open(body, from, to);
  while (reader.next()) {
    const { field } = reader;
    if (field >= ID_KEYS && field <= lastField && isKey(body, reader.start, reader.end, labels)) return true;
  }
  return false;
}
