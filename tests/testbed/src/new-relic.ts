/**
 * What New Relic makes of a request behind its 200, by its public documentation: what it drops, prunes and shortens, counted by
 * rule. Independent of the product's own reading.
 * https://docs.newrelic.com/docs/opentelemetry/best-practices/opentelemetry-otlp/
 */
import type { TestSignal } from './identity.ts';
import { each } from './item-reader.ts';

/** Items that are not there afterwards; parts of items that are not; and what is there in part. */
export const NEW_RELIC_RULES = {
  metric_too_old: 'dropped',
  metric_too_new: 'dropped',
  log_too_old: 'dropped',
  not_finite: 'dropped',
  delta_level: 'dropped',
  span_incomplete: 'dropped',
  attribute_type: 'pruned',
  attribute_array: 'pruned',
  attribute_bytes: 'pruned',
  attribute_named_as_metric: 'pruned',
  attributes_too_many: 'pruned',
  exemplar: 'pruned',
  span_link: 'pruned',
  attribute_name: 'shortened',
  attribute_value: 'shortened',
} as const;
export type NewRelicRule = keyof typeof NEW_RELIC_RULES;

export const NEW_RELIC_LIMITS = {
  /** On the wire; this many and more are refused. */
  bodyBytes: 1_000_000,
  nameChars: 255,
  valueChars: 4_095,
  arrayEntries: 64,
  bytesValue: 128_000,
  attributes: { resource: 64, scope: 8, point: 64, span: 254, log: 255 },
  metricPastMs: 48 * 3_600_000,
  metricAheadMs: 24 * 3_600_000,
  logPastMs: 48 * 3_600_000,
} as const;

type Owner = keyof typeof NEW_RELIC_LIMITS.attributes;
type Tell = (rule: NewRelicRule) => void;
type Field = { from: number; to: number };

const MONOTONIC = 3;
const TEMPORALITY = 2;
const DELTA = 1;
/** Of a metric: gauge, sum, histogram, exponential histogram, summary; where a point has what, 0 where it has not. */
const DATA = new Map([
  [5, { attributes: 7, exemplars: 5, double: 4, sum: 0, isSum: false }],
  [7, { attributes: 7, exemplars: 5, double: 4, sum: 0, isSum: true }],
  [9, { attributes: 9, exemplars: 8, double: 0, sum: 5, isSum: false }],
  [10, { attributes: 1, exemplars: 11, double: 0, sum: 5, isSum: false }],
  [11, { attributes: 7, exemplars: 0, double: 0, sum: 5, isSum: false }],
]);

/**
 * Reads a protobuf request, decompressed. Each rule is told once for an item; what its resource or scope breaks is the item's as well,
 * so that it does not matter how a pipeline divides or joins requests.
 * @throws when it cannot be read
 */
export function readAsNewRelic(signal: TestSignal, body: Buffer, nowMs: number, tell: Tell): void {
  for (const resource of fieldsOf(body, { from: 0, to: body.byteLength }, 1)) {
    const ofResource: NewRelicRule[] = [];
    for (const message of fieldsOf(body, resource, 1))
      readAttributes(body, message, 1, 'resource', (rule) => ofResource.push(rule));
    for (const scope of fieldsOf(body, resource, 2)) {
      const inherited = [...ofResource];
      for (const message of fieldsOf(body, scope, 1))
        readAttributes(body, message, 3, 'scope', (rule) => inherited.push(rule));
      for (const item of fieldsOf(body, scope, 2)) {
        if (signal === 'metrics') readMetric(body, item, nowMs, inherited, tell);
        else {
          const broken = signal === 'traces' ? readSpan(body, item) : readLog(body, item, nowMs);
          tellAll(broken, inherited, tell);
        }
      }
    }
  }
}

/** Of an item that is dropped nothing else matters. */
function tellAll(own: readonly NewRelicRule[], inherited: readonly NewRelicRule[], tell: Tell): void {
  const isDropped = own.some((rule) => NEW_RELIC_RULES[rule] === 'dropped');
  for (const rule of new Set(isDropped ? own : [...inherited, ...own])) tell(rule);
}

function readMetric(
  body: Buffer,
  metric: Field,
  nowMs: number,
  inherited: readonly NewRelicRule[],
  tell: Tell,
): void {
  const name = fieldsOf(body, metric, 1).at(-1);
  const text = name ? body.toString('utf8', name.from, name.to) : '';
  each(body, metric.from, metric.to, (number, from, to) => {
    const kind = DATA.get(number);
    if (!kind) return;
    const data = { from, to };
    const isDelta = lastVarint(body, data, TEMPORALITY) === DELTA;
    const isLevel = kind.isSum && isDelta && lastVarint(body, data, MONOTONIC) !== 1;
    for (const point of fieldsOf(body, data, 1)) {
      const timeMs = timeOf(body, point, 3);
      const numbers = [kind.double, kind.sum].filter((field) => field > 0);
      const areFinite = numbers.every((field) =>
        fieldsOf(body, point, field).every(({ from: at }) => Number.isFinite(body.readDoubleLE(at))),
      );
      const own: NewRelicRule[] = [];
      if (isLevel) own.push('delta_level');
      else if (!areFinite) own.push('not_finite');
      else if (timeMs < nowMs - NEW_RELIC_LIMITS.metricPastMs) own.push('metric_too_old');
      else if (timeMs > nowMs + NEW_RELIC_LIMITS.metricAheadMs) own.push('metric_too_new');
      else {
        readAttributes(body, point, kind.attributes, 'point', (rule) => own.push(rule), text);
        if (kind.exemplars > 0 && fieldsOf(body, point, kind.exemplars).length > 0) own.push('exemplar');
      }
      tellAll(own, inherited, tell);
    }
  });
}

function readSpan(body: Buffer, span: Field): NewRelicRule[] {
  const isFull = (field: number, bytes: number) =>
    fieldsOf(body, span, field).some(
      ({ from, to }) => to - from === bytes && body.subarray(from, to).some((byte) => byte !== 0),
    );
  if (!isFull(1, 16) || !isFull(2, 8) || timeOf(body, span, 7) === 0) return ['span_incomplete'];
  const broken: NewRelicRule[] = [];
  readAttributes(body, span, 9, 'span', (rule) => broken.push(rule));
  if (fieldsOf(body, span, 13).length > 0) broken.push('span_link');
  return broken;
}

function readLog(body: Buffer, log: Field, nowMs: number): NewRelicRule[] {
  const timeMs = timeOf(body, log, 1) || timeOf(body, log, 11);
  if (timeMs > 0 && timeMs < nowMs - NEW_RELIC_LIMITS.logPastMs) return ['log_too_old'];
  const broken: NewRelicRule[] = [];
  readAttributes(body, log, 6, 'log', (rule) => broken.push(rule));
  return broken;
}

/** Each rule once for the owner of the attributes. */
function readAttributes(
  body: Buffer,
  owner: Field,
  field: number,
  who: Owner,
  tell: Tell,
  metricName?: string,
): void {
  const broken = new Set<NewRelicRule>();
  const attributes = fieldsOf(body, owner, field);
  if (attributes.length > NEW_RELIC_LIMITS.attributes[who]) broken.add('attributes_too_many');
  for (const attribute of attributes) {
    const key = fieldsOf(body, attribute, 1).at(-1);
    const name = key ? body.toString('utf8', key.from, key.to) : '';
    if (name.length > NEW_RELIC_LIMITS.nameChars) broken.add('attribute_name');
    if (metricName !== undefined && name === metricName) broken.add('attribute_named_as_metric');
    const value = fieldsOf(body, attribute, 2).at(-1);
    if (value) readValue(body, value, broken);
  }
  for (const rule of broken) tell(rule);
}

function readValue(body: Buffer, value: Field, broken: Set<NewRelicRule>): void {
  each(body, value.from, value.to, (number, from, to) => {
    if (number === 1 && body.toString('utf8', from, to).length > NEW_RELIC_LIMITS.valueChars)
      broken.add('attribute_value');
    if (number === 6) broken.add('attribute_type');
    if (number === 7 && to - from > NEW_RELIC_LIMITS.bytesValue) broken.add('attribute_bytes');
    if (number !== 5) return;
    const kinds = new Set<number>();
    let entries = 0;
    for (const entry of fieldsOf(body, { from, to }, 1)) {
      entries += 1;
      each(body, entry.from, entry.to, (kind) => void kinds.add(kind));
    }
    if (kinds.size > 1 || kinds.has(5) || kinds.has(6)) broken.add('attribute_type');
    else if (entries > NEW_RELIC_LIMITS.arrayEntries) broken.add('attribute_array');
  });
}

function fieldsOf(body: Buffer, { from, to }: Field, wanted: number): Field[] {
  const found: Field[] = [];
  each(body, from, to, (number, start, end) => {
    if (number === wanted) found.push({ from: start, to: end });
  });
  return found;
}

function lastVarint(body: Buffer, message: Field, field: number): number {
  const last = fieldsOf(body, message, field).at(-1);
  return last ? body[last.from]! & 127 : 0;
}

/** Unix ms of a fixed64 in nanoseconds; 0 when there is none. */
function timeOf(body: Buffer, message: Field, field: number): number {
  const last = fieldsOf(body, message, field).at(-1);
  return last ? Number(body.readBigUInt64LE(last.from) / 1_000_000n) : 0;
}
