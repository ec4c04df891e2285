import { FieldCursor, protobufToJson, type Signal, splitRequest, walk } from '@nrdot/otlp';
import { findMessage, readAttributes } from '../classifier/read.ts';
import { isSecretKey, REDACTED, redactText } from './redaction.ts';

/** An item in readable form, redacted. Ids in hex. */
export interface SampledItem {
  service: string;
  /** Name of a span or metric; event name of a log record. */
  name: string;
  /** Its content: duration and status, value and unit, severity and body. */
  about: Record<string, Shown>;
  traceId?: string;
  spanId?: string;
  attributes: Record<string, Shown>;
  resource: Record<string, Shown>;
}

export type Shown = string | number | boolean | null | Shown[] | { [key: string]: Shown };

/** OTLP's JSON form, as far as it is read here. */
type Json = { [key: string]: unknown };

const RESOURCES = 1;
const RESOURCE = 1;
const SERVICE_NAME = 'service.name';
const SERVICE = new Set([SERVICE_NAME]);
const MAX_ATTRIBUTES = 32;
const MAX_ELEMENTS = 16;
const MAX_NESTING = 4;
/**
 * Limits on what is decoded and searched for secrets per batch: more than a terminal shows, and independent of what senders
 * send.
 */
const DECODED_MAX_BYTES = 128 * 1024;
/** Minimum share of that for a resource, since decoding an empty one takes as long as decoding this many bytes. */
const RESOURCE_BYTES = 1024;
const SHOWN_MAX_CHARS = 64 * 1024;
/** Minimum share of that for a value. */
const VALUE_CHARS = 8;
const NO_ROOM = '…';
const SPAN_KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const STATUSES = ['unset', 'ok', 'error'];
const METRIC_KINDS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'];

/**
 * The first items of a request, decoded and redacted. Only what is shown is decoded: resources and items are cut out of the
 * bytes first.
 * @param body valid protobuf
 * @param service only resources with this service.name
 * @param limit maximum number of items
 */
export function sampleOf(
  signal: Signal,
  body: Buffer,
  service: string | undefined,
  limit: number,
): SampledItem[] {
  if (signal === 'profiles') return [];
  const items: SampledItem[] = [];
  const show = new Show();
  let bytesLeft = DECODED_MAX_BYTES;
  const cursor = new FieldCursor(body);
  while (items.length < limit && cursor.next()) {
    if (cursor.number !== RESOURCES) continue;
    if (service !== undefined && serviceOf(body, cursor.start, cursor.end) !== service) continue;
    // A single resource with everything below it is a request by itself.
    const part = firstItems(signal, body.subarray(cursor.tagStart, cursor.end), limit - items.length);
    bytesLeft -= Math.max(RESOURCE_BYTES, part.byteLength);
    if (bytesLeft < 0) break;
    items.push(...itemsOf(signal, JSON.parse(protobufToJson(signal, part)!) as Json, show));
  }
  return items.slice(0, limit);
}

function serviceOf(body: Buffer, start: number, end: number): string | undefined {
  const resource = findMessage(body, start, end, RESOURCE);
  return resource && readAttributes(body, resource.start, resource.end, SERVICE).get(SERVICE_NAME);
}

function firstItems(signal: Signal, body: Buffer, limit: number): Buffer {
  let part = body;
  while (walk(signal, part, {}).items > limit) {
    const halves = splitRequest(signal, part);
    if (!halves) break;
    [part] = halves;
  }
  return part;
}

/** Names of the lists of a request, and what shows an element of the last one. */
const SHAPES = {
  traces: ['resourceSpans', 'scopeSpans', 'spans', spanOf],
  logs: ['resourceLogs', 'scopeLogs', 'logRecords', logOf],
  metrics: ['resourceMetrics', 'scopeMetrics', 'metrics', pointsOf],
} as const;

function itemsOf(signal: keyof typeof SHAPES, request: Json, show: Show): SampledItem[] {
  const [resources, scopes, items, shown] = SHAPES[signal];
  return list(request[resources]).flatMap((each) => {
    const resource = show.attributes((each.resource as Json | undefined)?.attributes);
    const named = resource[SERVICE_NAME] ?? '';
    // String() would call toString of an object, which may be an attribute named by the sender.
    const service = typeof named === 'object' ? JSON.stringify(named) : String(named);
    return list(each[scopes])
      .flatMap((scope) => list(scope[items]).flatMap((item) => shown(item, show)))
      .map((item) => ({ service, ...item, resource }));
  });
}

type WithoutResource = Omit<SampledItem, 'service' | 'resource'>;

function spanOf(span: Json, show: Show): WithoutResource {
  const { code = 0, message } = (span.status ?? {}) as { code?: number; message?: string };
  const durationNs = BigInt(text(span.endTimeUnixNano, '0')) - BigInt(text(span.startTimeUnixNano, '0'));
  return {
    name: show.text(text(span.name)),
    about: {
      kind: SPAN_KINDS[Number(span.kind ?? 0)] ?? 'unknown',
      durationMs: Number(durationNs) / 1e6,
      status: STATUSES[code] ?? 'unknown',
      ...(message ? { message: show.text(message) } : {}),
      ...counted('events', span.events),
      ...counted('links', span.links),
    },
    ...idsOf(span),
    attributes: show.attributes(span.attributes),
  };
}

function logOf(record: Json, show: Show): WithoutResource {
  return {
    name: show.text(text(record.eventName)),
    about: {
      severity: show.text(text(record.severityText)) || `severity ${Number(record.severityNumber ?? 0)}`,
      body: show.value(record.body as Json | undefined, 0),
    },
    ...idsOf(record),
    attributes: show.attributes(record.attributes),
  };
}

function pointsOf(metric: Json, show: Show): WithoutResource[] {
  const kind = METRIC_KINDS.find((known) => metric[known] !== undefined);
  if (!kind) return [];
  const unit = text(metric.unit);
  return list((metric[kind] as Json).dataPoints).map((point) => ({
    name: show.text(text(metric.name)),
    about: {
      kind,
      ...(unit ? { unit: show.text(unit) } : {}),
      ...numbers({
        value: point.asDouble ?? point.asInt,
        count: point.count,
        sum: point.sum,
        min: point.min,
        max: point.max,
      }),
    },
    attributes: show.attributes(point.attributes),
  }));
}

function idsOf({ traceId, spanId }: Json): Pick<SampledItem, 'traceId' | 'spanId'> {
  return { ...(traceId ? { traceId: text(traceId) } : {}), ...(spanId ? { spanId: text(spanId) } : {}) };
}

/** Formats values without their secrets, up to the limit on what is searched. */
class Show {
  #charsLeft = SHOWN_MAX_CHARS;

  text(text: string): string {
    return this.#spend(text) ? redactText(text) : NO_ROOM;
  }

  attributes(attributes: unknown, nesting = 0): Record<string, Shown> {
    const all = list(attributes);
    const pairs: [string, Shown][] = [];
    for (const { key, value } of all.slice(0, MAX_ATTRIBUTES)) {
      if (!this.#spend(text(key))) break;
      const shown = isSecretKey(text(key)) ? REDACTED : this.value(value as Json | undefined, nesting);
      pairs.push([redactText(text(key)), shown]);
    }
    if (all.length > pairs.length) pairs.push([NO_ROOM, `${all.length - pairs.length} more`]);
    return Object.fromEntries(pairs);
  }

  /** An AnyValue. */
  value(value: Json | undefined, nesting: number): Shown {
    if (!value) return null;
    if (typeof value.stringValue === 'string') return this.text(value.stringValue);
    if (!this.#spend('')) return NO_ROOM;
    if (typeof value.boolValue === 'boolean') return value.boolValue;
    if (value.intValue !== undefined) return number(value.intValue);
    if (value.doubleValue !== undefined) return number(value.doubleValue);
    if (typeof value.bytesValue === 'string')
      return `<${Buffer.byteLength(value.bytesValue, 'base64')} bytes>`;
    if (nesting >= MAX_NESTING) return NO_ROOM;
    if (value.arrayValue) {
      const all = list((value.arrayValue as Json).values);
      const some: Shown[] = all.slice(0, MAX_ELEMENTS).map((element) => this.value(element, nesting + 1));
      return all.length > MAX_ELEMENTS ? [...some, `… ${all.length - MAX_ELEMENTS} more`] : some;
    }
    if (value.kvlistValue) return this.attributes((value.kvlistValue as Json).values, nesting + 1);
    return null;
  }

  #spend(text: string): boolean {
    this.#charsLeft -= VALUE_CHARS + text.length;
    return this.#charsLeft >= 0;
  }
}

/** 64-bit integers are strings in JSON; those that a number cannot represent stay strings. */
function number(value: unknown): Shown {
  const parsed = Number(value);
  return typeof value === 'string' && !Number.isSafeInteger(parsed) ? value : parsed;
}

function numbers(values: Record<string, unknown>): Record<string, Shown> {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, number(value)]));
}

function counted(name: string, values: unknown): Record<string, number> {
  const { length } = list(values);
  return length > 0 ? { [name]: length } : {};
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}

function text(value: unknown, otherwise = ''): string {
  return typeof value === 'string' ? value : otherwise;
}
