import { FieldCursor, protobufToJson, type Signal, splitRequest, walk } from '@nrdot/otlp';
import { findMessage, readAttributes } from '../classifier/read.ts';
import { isSecretKey, REDACTED, redactText } from './redaction.ts';

/** An item as people read it, redacted. Ids in hex. */
export interface SampledItem {
  service: string;
  /** Of a span or a metric; a log record's event name. */
  name: string;
  /** What kind of thing it is and what it says: duration and status, value and unit, severity and body. */
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
const SPAN_KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const STATUSES = ['unset', 'ok', 'error'];
const METRIC_KINDS = ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'];

/**
 * The first items of a request, decoded and redacted. Only what is shown is decoded: resources and items are cut out of
 * the bytes first.
 * @param body protobuf, validated
 * @param service only of resources with this service.name
 * @param limit items at most
 */
export function sampleOf(
  signal: Signal,
  body: Buffer,
  service: string | undefined,
  limit: number,
): SampledItem[] {
  const items: SampledItem[] = [];
  const cursor = new FieldCursor().reset(body, 0, body.byteLength);
  while (items.length < limit && cursor.next()) {
    if (cursor.number !== RESOURCES) continue;
    if (service !== undefined && serviceOf(body, cursor.start, cursor.end) !== service) continue;
    // One resource with all that is under it is a request by itself.
    const part = firstItems(signal, body.subarray(cursor.tagStart, cursor.end), limit - items.length);
    const text = protobufToJson(signal, part);
    if (text !== undefined) items.push(...itemsOf(signal, JSON.parse(text) as Json));
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

function itemsOf(signal: Signal, request: Json): SampledItem[] {
  const [resources, scopes] = {
    traces: ['resourceSpans', 'scopeSpans'],
    logs: ['resourceLogs', 'scopeLogs'],
    metrics: ['resourceMetrics', 'scopeMetrics'],
    profiles: ['', ''],
  }[signal] as [string, string];
  return list(request[resources]).flatMap((each) => {
    const resource = attributesOf((each.resource as Json | undefined)?.attributes);
    const service = String(resource[SERVICE_NAME] ?? '');
    return list(each[scopes]).flatMap((scope) => {
      switch (signal) {
        case 'traces':
          return list(scope.spans).map((span) => ({ service, ...spanOf(span), resource }));
        case 'logs':
          return list(scope.logRecords).map((record) => ({ service, ...logOf(record), resource }));
        default:
          return list(scope.metrics).flatMap((metric) =>
            pointsOf(metric).map((point) => ({ service, ...point, resource })),
          );
      }
    });
  });
}

type WithoutResource = Omit<SampledItem, 'service' | 'resource'>;

function spanOf(span: Json): WithoutResource {
  const { code = 0, message } = (span.status ?? {}) as { code?: number; message?: string };
  const durationNs = BigInt(text(span.endTimeUnixNano, '0')) - BigInt(text(span.startTimeUnixNano, '0'));
  return {
    name: redactText(text(span.name)),
    about: {
      kind: SPAN_KINDS[Number(span.kind ?? 0)] ?? 'unknown',
      durationMs: Number(durationNs) / 1e6,
      status: STATUSES[code] ?? 'unknown',
      ...(message ? { message: redactText(message) } : {}),
      ...counted('events', span.events),
      ...counted('links', span.links),
    },
    ...idsOf(span),
    attributes: attributesOf(span.attributes),
  };
}

function logOf(record: Json): WithoutResource {
  return {
    name: redactText(text(record.eventName)),
    about: {
      severity: text(record.severityText) || `severity ${Number(record.severityNumber ?? 0)}`,
      body: shown(record.body as Json | undefined, 0),
    },
    ...idsOf(record),
    attributes: attributesOf(record.attributes),
  };
}

function pointsOf(metric: Json): WithoutResource[] {
  const kind = METRIC_KINDS.find((known) => metric[known] !== undefined);
  if (!kind) return [];
  const unit = text(metric.unit);
  return list((metric[kind] as Json).dataPoints).map((point) => ({
    name: redactText(text(metric.name)),
    about: {
      kind,
      ...(unit ? { unit: redactText(unit) } : {}),
      ...numbers({
        value: point.asDouble ?? point.asInt,
        count: point.count,
        sum: point.sum,
        min: point.min,
        max: point.max,
      }),
    },
    attributes: attributesOf(point.attributes),
  }));
}

function idsOf({ traceId, spanId }: Json): Pick<SampledItem, 'traceId' | 'spanId'> {
  return { ...(traceId ? { traceId: text(traceId) } : {}), ...(spanId ? { spanId: text(spanId) } : {}) };
}

function attributesOf(attributes: unknown, nesting = 0): Record<string, Shown> {
  const all = list(attributes);
  const pairs = all.slice(0, MAX_ATTRIBUTES).map(({ key, value }): [string, Shown] => {
    const name = redactText(text(key));
    return [name, isSecretKey(text(key)) ? REDACTED : shown(value as Json | undefined, nesting)];
  });
  if (all.length > MAX_ATTRIBUTES) pairs.push(['…', `${all.length - MAX_ATTRIBUTES} more`]);
  return Object.fromEntries(pairs);
}

/** An AnyValue. */
function shown(value: Json | undefined, nesting: number): Shown {
  if (!value) return null;
  if (typeof value.stringValue === 'string') return redactText(value.stringValue);
  if (typeof value.boolValue === 'boolean') return value.boolValue;
  if (value.intValue !== undefined) return number(value.intValue);
  if (value.doubleValue !== undefined) return number(value.doubleValue);
  if (typeof value.bytesValue === 'string') return `<${Buffer.byteLength(value.bytesValue, 'base64')} bytes>`;
  if (nesting >= MAX_NESTING) return '…';
  if (value.arrayValue) {
    const all = list((value.arrayValue as Json).values);
    const some: Shown[] = all.slice(0, MAX_ELEMENTS).map((element) => shown(element, nesting + 1));
    return all.length > MAX_ELEMENTS ? [...some, `… ${all.length - MAX_ELEMENTS} more`] : some;
  }
  if (value.kvlistValue) return attributesOf((value.kvlistValue as Json).values, nesting + 1);
  return null;
}

/** 64-bit integers come as text; those that a number cannot hold stay so. */
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
