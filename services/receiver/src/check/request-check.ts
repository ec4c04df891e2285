import { FieldCursor, type Signal, varint32 } from '@nrdot/otlp';
import { BIT, type CheckRule, LIMITS, type Owner, POINTS } from './rules.ts';

/** Called for each item, also for those that break no rule. */
export interface Findings {
  /**
   * @param broken bit set by index in CHECK_RULE_NAMES; includes what its resource or scope breaks
   * @param service service.name of its resource
   */
  item(signal: Signal, broken: number, service: string): void;
  /** Whether an example is wanted of what broke a rule. */
  wantsExample(rule: CheckRule): boolean;
  /** An example for the next item that is reported: names and sizes, without values. */
  example(rule: CheckRule, what: string): void;
}

const SUM = 7;
const SHOWN_NAME_CHARS = 80;
/** Items, scopes and the like between two pauses. */
const PIECE_STEPS = 500;
/**
 * Maximum number of attributes per owner, and of entries per array, that are checked; the rest are only counted, since the
 * backend keeps none of them.
 */
const LOOKED_AT_MAX = 1_000;

/** Checks requests against the rules. Bodies are valid protobuf. One at a time. */
export class RequestCheck {
  readonly #findings: Findings;
  #body: Buffer = EMPTY;
  #view: DataView = new DataView(EMPTY.buffer);
  #nowMs = 0;
  /** Rules broken so far by the message being read. */
  #broken = 0;
  #steps = 0;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** @param nowMs Unix ms at which New Relic would receive it */
  request(signal: Signal, body: Buffer, nowMs: number): void {
    for (const _ of this.pieces(signal, body, nowMs));
  }

  /** `request` with a pause after each piece, so that other work can run. */
  *pieces(signal: Signal, body: Buffer, nowMs: number): Generator<void> {
    if (signal === 'profiles') return;
    this.#body = body;
    this.#view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    this.#nowMs = nowMs;
    const cursor = new FieldCursor(body);
    while (cursor.next()) if (cursor.number === 1) yield* this.#resource(signal, cursor.start, cursor.end);
    this.#body = EMPTY;
  }

  /** Whether to pause; checked wherever a request may repeat something without limit. */
  #isPause(): boolean {
    return ++this.#steps % PIECE_STEPS === 0;
  }

  *#resource(signal: Signal, start: number, end: number): Generator<void> {
    if (this.#isPause()) yield;
    this.#broken = 0;
    let service = '';
    let attributes = 0;
    // The resource may come after its scopes, so it is read first.
    for (const resource = this.#fields(start, end); resource.find(1); ) {
      if (this.#isPause()) yield;
      for (const inner = this.#fields(resource.start, resource.end); inner.find(1); ) {
        if (attributes++ < LOOKED_AT_MAX) service = this.#attribute(inner.start, inner.end) ?? service;
      }
    }
    this.#tooMany('resource', attributes);
    const ofResource = this.#broken;
    for (const scopes = this.#fields(start, end); scopes.find(2); ) {
      if (this.#isPause()) yield;
      this.#broken = ofResource;
      for (const scope = this.#fields(scopes.start, scopes.end); scope.find(1); ) {
        if (this.#isPause()) yield;
        this.#tooMany('scope', this.#attributes(scope.start, scope.end, 3));
      }
      const ofScope = this.#broken;
      for (const items = this.#fields(scopes.start, scopes.end); items.find(2); ) {
        if (this.#isPause()) yield;
        if (signal === 'metrics') yield* this.#metric(items.start, items.end, ofScope, service);
        else {
          this.#broken = ofScope;
          if (signal === 'traces') this.#span(items.start, items.end);
          else this.#log(items.start, items.end);
          this.#findings.item(signal, this.#broken, service);
        }
      }
    }
  }

  #span(start: number, end: number): void {
    let [hasTrace, hasSpan, startMs, attributes] = [false, false, 0, 0];
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number === 1) hasTrace = this.#isId(field, 16);
      else if (field.number === 2) hasSpan = this.#isId(field, 8);
      else if (field.number === 7) startMs = this.#timeMs(field);
      else if (field.number === 9) {
        if (attributes++ < LOOKED_AT_MAX) this.#attribute(field.start, field.end);
      } else if (field.number === 13) this.#breaks('span_link');
    }
    this.#tooMany('span', attributes);
    if (!hasTrace || !hasSpan || startMs === 0) this.#isDropped('span_incomplete');
  }

  #log(start: number, end: number): void {
    let [timeMs, observedMs, attributes] = [0, 0, 0];
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number === 1) timeMs = this.#timeMs(field);
      else if (field.number === 11) observedMs = this.#timeMs(field);
      else if (field.number === 6) {
        if (attributes++ < LOOKED_AT_MAX) this.#attribute(field.start, field.end);
      }
    }
    this.#tooMany('log', attributes);
    const at = timeMs || observedMs;
    if (at > 0 && at < this.#nowMs - LIMITS.logPastMs) this.#isDropped('log_too_old');
  }

  *#metric(start: number, end: number, ofScope: number, service: string): Generator<void> {
    let [nameStart, nameEnd] = [0, 0];
    for (const metric = this.#fields(start, end); metric.next(); )
      if (metric.number === 1) [nameStart, nameEnd] = [metric.start, metric.end];
    const name = this.#body.subarray(nameStart, nameEnd);
    for (const metric = this.#fields(start, end); metric.next(); ) {
      const kind = POINTS[metric.number];
      if (!kind) continue;
      if (this.#isPause()) yield;
      let [temporality, isMonotonic] = [0, false];
      if (metric.number === SUM) {
        for (const data = this.#fields(metric.start, metric.end); data.next(); ) {
          if (data.number === 2) temporality = varint32(this.#body, data.start, data.end);
          else if (data.number === 3) isMonotonic = varint32(this.#body, data.start, data.end) !== 0;
        }
      }
      const isDeltaLevel = temporality === 1 && !isMonotonic;
      for (const data = this.#fields(metric.start, metric.end); data.find(1); ) {
        if (this.#isPause()) yield;
        this.#broken = ofScope;
        this.#point(data.start, data.end, kind, name, isDeltaLevel);
        this.#findings.item('metrics', this.#broken, service);
      }
    }
  }

  #point(
    start: number,
    end: number,
    kind: { attributes: number; exemplars: number; value: number; sum: number },
    name: Buffer,
    isDeltaLevel: boolean,
  ): void {
    let [timeMs, isNumber, attributes] = [0, true, 0];
    for (const field = this.#fields(start, end); field.next(); ) {
      const { number, wireType } = field;
      if (number === 3) timeMs = this.#timeMs(field);
      else if (number === kind.attributes) {
        if (attributes++ < LOOKED_AT_MAX) this.#attribute(field.start, field.end, name);
      } else if (number === kind.exemplars) this.#breaks('exemplar');
      else if ((number === kind.value || number === kind.sum) && wireType === 1)
        isNumber &&= Number.isFinite(this.#view.getFloat64(field.start, true));
    }
    this.#tooMany('point', attributes);
    if (isDeltaLevel) this.#isDropped('delta_level', () => shown(name));
    else if (!isNumber) this.#isDropped('not_finite', () => shown(name));
    else if (timeMs < this.#nowMs - LIMITS.metricPastMs) this.#isDropped('metric_too_old', () => shown(name));
    else if (timeMs > this.#nowMs + LIMITS.metricAheadMs)
      this.#isDropped('metric_too_new', () => shown(name));
  }

  /** @returns the number of attributes */
  #attributes(start: number, end: number, number: number): number {
    let found = 0;
    for (const field = this.#fields(start, end); field.find(number); ) {
      if (found++ < LOOKED_AT_MAX) this.#attribute(field.start, field.end);
    }
    return found;
  }

  /** @returns its text if it is service.name */
  #attribute(start: number, end: number, metricName?: Buffer): string | undefined {
    const body = this.#body;
    let [keyStart, keyEnd, valueStart, valueEnd] = [0, 0, 0, 0];
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number === 1) [keyStart, keyEnd] = [field.start, field.end];
      else if (field.number === 2) [valueStart, valueEnd] = [field.start, field.end];
    }
    const key = () => shown(body.subarray(keyStart, keyEnd));
    if (this.#chars(keyStart, keyEnd, LIMITS.nameChars) > LIMITS.nameChars)
      this.#breaks('attribute_name', () => `${key()}: ${keyEnd - keyStart} bytes`);
    if (metricName && keyEnd - keyStart === metricName.byteLength && metricName.byteLength > 0) {
      if (metricName.equals(body.subarray(keyStart, keyEnd))) this.#breaks('attribute_named_as_metric', key);
    }
    let text: string | undefined;
    for (const value = this.#fields(valueStart, valueEnd); value.next(); ) {
      const length = value.end - value.start;
      if (value.number === 1) {
        if (this.#chars(value.start, value.end, LIMITS.valueChars) > LIMITS.valueChars)
          this.#breaks('attribute_value', () => `${key()}: ${length} bytes`);
        if (isServiceName(body, keyStart, keyEnd)) text = body.toString('utf8', value.start, value.end);
      } else if (value.number === 5) this.#array(value.start, value.end, key);
      else if (value.number === 6) this.#breaks('attribute_type', () => `${key()}: a map`);
      else if (value.number === 7 && length > LIMITS.bytesValue)
        this.#breaks('attribute_bytes', () => `${key()}: ${length} bytes`);
    }
    return text;
  }

  #array(start: number, end: number, key: () => string): void {
    let entries = 0;
    let kinds = 0;
    for (const list = this.#fields(start, end); list.next(); ) {
      if (list.number !== 1 || entries++ >= LOOKED_AT_MAX) continue;
      for (const entry = this.#fields(list.start, list.end); entry.next(); )
        if (entry.number < 8) kinds |= 1 << entry.number;
    }
    const isMixed = (kinds & (kinds - 1)) !== 0;
    if (isMixed || (kinds & ((1 << 5) | (1 << 6))) !== 0)
      this.#breaks('attribute_type', () => `${key()}: a ${isMixed ? 'mixed' : 'nested'} array`);
    else if (entries > LIMITS.arrayEntries)
      this.#breaks('attribute_array', () => `${key()}: ${entries} entries`);
  }

  #tooMany(owner: Owner, attributes: number): void {
    const limit = LIMITS.attributesOf[owner];
    if (attributes > limit)
      this.#breaks('attributes_too_many', () => `${attributes} attributes of a ${owner}; ${limit} are kept`);
  }

  #breaks(rule: CheckRule, what?: () => string): void {
    if ((this.#broken & BIT[rule]) !== 0) return;
    this.#broken |= BIT[rule];
    if (what && this.#findings.wantsExample(rule)) this.#findings.example(rule, what());
  }

  /** For a dropped item, other findings do not matter. */
  #isDropped(rule: CheckRule, what?: () => string): void {
    this.#broken = 0;
    this.#breaks(rule, what);
  }

  /** Length of a text in characters, exact only as far as it may exceed the limit. */
  #chars(start: number, end: number, limit: number): number {
    return end - start <= limit ? end - start : this.#body.toString('utf8', start, end).length;
  }

  #isId({ start, end }: FieldCursor, bytes: number): boolean {
    if (end - start !== bytes) return false;
    for (let at = start; at < end; at++) if (this.#body[at] !== 0) return true;
    return false;
  }

  #timeMs({ start, wireType }: FieldCursor): number {
    return wireType === 1 ? Number(this.#view.getBigUint64(start, true)) / 1e6 : 0;
  }

  #fields(start: number, end: number): FieldCursor {
    return new FieldCursor(this.#body, start, end);
  }
}

const EMPTY = Buffer.alloc(0);
const SERVICE_NAME = Buffer.from('service.name');

function isServiceName(body: Buffer, start: number, end: number): boolean {
  return end - start === SERVICE_NAME.byteLength && SERVICE_NAME.equals(body.subarray(start, end));
}

function shown(name: Buffer): string {
  const text = name.toString('utf8', 0, SHOWN_NAME_CHARS * 4).slice(0, SHOWN_NAME_CHARS);
  return text.length < SHOWN_NAME_CHARS ? text : `${text}…`;
}
