import type { Label } from '../admission/metric-table.ts';
import { ATTRIBUTES_FIELD, DELTA } from '../wire/metric-kind.ts';
import { NO_RECORDED_VALUE } from '../wire/point.ts';
import { Reader } from '../wire/reader.ts';
import { ReverseWriter } from '../wire/writer.ts';
import type { HeldPoint } from './held-points.ts';
import {
  CUT,
  type Group,
  type Groups,
  KEEP,
  type Message,
  type MetricGroup,
  type MetricNode,
  type Plan,
  type ScopeGroup,
  type ScopeNode,
} from './plan.ts';
import type { OutputStream } from './stream.ts';

/** The KeyValue `otel.metric.overflow = true`, without its tag. */
export const OVERFLOW_ATTRIBUTE = Buffer.from('\x0a\x14otel.metric.overflow\x12\x02\x10\x01', 'latin1');

const fieldReader = new Reader();
const labelReader = new Reader();
/** Ranges of the message being copied: (start, end) pairs. */
const runs: number[] = [];

/** Typical size of one point with its resource, scope and metric. */
const HELD_BYTES = 512;

const RESOURCE_METRICS = 1;
const RESOURCE = 1;
const CHILDREN = 2;
/** Field number in the data of a metric. */
const TEMPORALITY = 2;
/** Field numbers in a Resource, and in an EntityRef. */
const ENTITY_REFS = 3;
const ID_KEYS = 3;
const DESCRIPTION_KEYS = 4;

/** Fields of a point that the end of its stream replaces or does not have. */
const END_FIELDS = [3, 4, 5, 6, 8];

/**
 * Rewrites the request from its end to its beginning, by the plan. Everything else is copied, unknown fields included. A
 * message that loses all its points is removed.
 */
export function rewriteBody(
  body: Uint8Array,
  plan: Plan,
  streams: readonly OutputStream[],
  writer: Uint8Array,
): Uint8Array {
  return new Rewriter(body, writer, estimateBytes(body, plan, streams)).run(plan, streams);
}

/** Writes a deferred stream as a request of its own. */
export function writeHeld(body: Uint8Array, groups: Groups, writer: Uint8Array): Omit<HeldPoint, 'parts'> {
  return new Rewriter(body, writer, HELD_BYTES).alone(groups);
}

class Rewriter {
  readonly #body: Uint8Array;
  readonly #writer: ReverseWriter;
  /** The KeyValue with the writer of cumulative streams, without its tag. */
  readonly #writerAttribute: Uint8Array;
  /** Range of the point written last, counted from the end. */
  #pointStart = 0;
  #pointEnd = 0;

  constructor(body: Uint8Array, writer: Uint8Array, capacityBytes: number) {
    this.#writerAttribute = writer;
    this.#body = body;
    this.#writer = new ReverseWriter(capacityBytes);
  }

  /** Writes groups with a single point. */
  alone(groups: Groups): Omit<HeldPoint, 'parts'> {
    this.#groups(groups);
    const { buffer, byteOffset, length } = this.#writer.finish();
    const bytes = Buffer.from(buffer, byteOffset, length);
    return { bytes, start: length - this.#pointStart, end: length - this.#pointEnd };
  }

  run({ groups, resources, edits }: Plan, streams: readonly OutputStream[]): Uint8Array {
    this.#groups(groups);
    const isGone = (scope: ScopeNode) => this.#losesAll(scope, scope.metrics, isCut);
    this.#message({ start: 0, end: this.#body.length }, resources, RESOURCE_METRICS, (resource) => {
      if (this.#losesAll(resource, resource.scopes, isGone)) return false;
      this.#message(resource, resource.scopes, CHILDREN, (scope) => {
        if (isGone(scope)) return false;
        this.#message(scope, scope.metrics, CHILDREN, (metric) => {
          if (isCut(metric)) return false;
          this.#metric(metric, edits, streams);
          return true;
        });
        return true;
      });
      return true;
    });
    return this.#writer.finish();
  }

  /** Writes a message: changed children by `write` (false: removed), the rest copied. */
  #message<T extends Message>(
    { start, end }: Range,
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

  #metric(metric: MetricNode, edits: Int32Array, streams: readonly OutputStream[]): void {
    const writer = this.#writer;
    const body = this.#body;
    writer.raw(body, metric.dataEnd, metric.end);
    const mark = writer.length;
    let cursor = metric.dataEnd;
    for (let i = metric.to - 3; i >= metric.from; i -= 3) {
      const action = edits[i + 2]!;
      if (action === KEEP) continue;
      writer.raw(body, edits[i + 1]!, cursor);
      if (action !== CUT) this.#stream(streams[action]!);
      cursor = edits[i]!;
    }
    writer.raw(body, metric.dataStart, cursor);
    writer.close(metric.kind, mark);
    writer.raw(body, metric.start, metric.dataTagStart);
  }

  #groups(groups: Groups): void {
    for (const group of [...groups.values()].reverse()) this.#group(group);
  }

  #group(group: Group): void {
    const writer = this.#writer;
    const mark = writer.length;
    for (const scope of [...group.scopes.values()].reverse()) this.#scopeGroup(scope);
    const touched = fieldsOf(this.#body, group, (field) => field === RESOURCE || field === CHILDREN);
    this.#message(group, touched, RESOURCE, ({ field, start, end }) => {
      if (field === CHILDREN) return false;
      this.#resource({ start, end }, group.reduction.resourceLabels);
      return true;
    });
    writer.close(RESOURCE_METRICS, mark);
  }

  /**
   * A resource without these labels. Its entity references change too: a descriptive key is removed, and an entity that is
   * identified by a removed key is removed as a whole, since it would be another one without it.
   */
  #resource(resource: Range, labels: readonly Label[]): void {
    const body = this.#body;
    const touched = fieldsOf(body, resource, (field, from, to) =>
      field === ENTITY_REFS
        ? namesLabel(body, from, to, labels)
        : field === 1 && isLabel(body, from, to, labels),
    );
    this.#message(resource, touched, ENTITY_REFS, ({ field, start, end }) => {
      if (field !== ENTITY_REFS || namesLabel(body, start, end, labels, ID_KEYS)) return false;
      this.#without(
        start,
        end,
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
    const { total, startLo, startHi, exemplars } = stream;
    let replaced: readonly number[] = [];
    if (stream.isEnd) {
      writer.varint(NO_RECORDED_VALUE);
      writer.tag(8, 0);
      writer.fixed64Field(3, stream.timeLo, stream.timeHi);
      replaced = END_FIELDS;
    } else if (stream.recomputed) {
      total!.write(writer);
      writer.fixed64Field(3, stream.timeLo, stream.timeHi);
      if (startLo !== 0 || startHi !== 0) writer.fixed64Field(2, startLo, startHi);
      for (let i = exemplars.length - 2; i >= 0; i -= 2) writer.raw(body, exemplars[i]!, exemplars[i + 1]!);
      replaced = total!.fields;
    }
    const attributes = ATTRIBUTES_FIELD[stream.kind]!;
    const { overflow, pointLabels } = stream.reduction;
    if (overflow) this.#attribute(attributes, OVERFLOW_ATTRIBUTE);
    if (stream.isCumulative && !stream.isEnd && !stream.asDelta)
      this.#attribute(attributes, this.#writerAttribute);
    this.#without(stream.start, stream.end, (field, start, end) => {
      if (field !== attributes) return replaced.includes(field);
      return overflow || isLabel(body, start, end, pointLabels);
    });
    this.#pointEnd = mark;
    this.#pointStart = writer.length;
    writer.close(1, mark);
  }

  #attribute(field: number, keyValue: Uint8Array): void {
    const mark = this.#writer.length;
    this.#writer.raw(keyValue, 0, keyValue.length);
    this.#writer.close(field, mark);
  }
}

type Range = Pick<Message, 'start' | 'end'>;

function fieldsOf(
  body: Uint8Array,
  message: Range,
  isWanted: (field: number, start: number, end: number) => boolean,
): (Message & { field: number })[] {
  const found: (Message & { field: number })[] = [];
  const reader = new Reader().open(body, message.start, message.end);
  while (reader.next()) {
    const { field, tagStart, start, end } = reader;
    if (isWanted(field, start, end)) found.push({ field, tagStart, start, end });
  }
  return found;
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

/** Whether nothing is left of a metric. */
const isCut = (metric: MetricNode) => metric.cuts === metric.points && metric.added === 0;

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
