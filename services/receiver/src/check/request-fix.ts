import { isAscii } from 'node:buffer';
import { NEW_RELIC_ENTITY_LABELS } from '@nrdot/config/preset';
import { FieldCursor, type Signal } from '@nrdot/otlp';
import { FixEdits } from './fix-edits.ts';
import { BIT, CHECK_RULE_NAMES, type CheckRule, LIMITS, type Owner, POINTS } from './rules.ts';

/** Fixed items by rule, by index in CHECK_RULE_NAMES. */
export type FixCounts = readonly number[];

export interface Fixed {
  /** The same buffer if nothing was changed. */
  body: Buffer;
  /** Undefined if nothing was changed. */
  counts: FixCounts | undefined;
}

/** Resource attributes that are kept before others. */
const ENTITY_ATTRIBUTES = NEW_RELIC_ENTITY_LABELS.map((name) => Buffer.from(name));
const ENTITY_LENGTHS = new Set(ENTITY_ATTRIBUTES.map((name) => name.byteLength));

/** Maximum number of array entries that are read: a larger array is pruned whatever it contains. */
const ENTRIES_MAX = 1_000;
const NO_FIELD = -1;
const EMPTY = Buffer.alloc(0);

/**
 * Removes from a request what the backend would prune or shorten: unsupported attributes, those beyond the maximum number, the
 * ends of long names and texts, exemplars and links. These edits only remove bytes and change lengths; all other bytes stay.
 * Items are never removed. Bodies are valid protobuf.
 */
export class RequestFix {
  #body: Buffer = EMPTY;
  readonly #edits = new FixEdits();
  #broken = 0;
  /** Attributes of the current owner that are kept, and how many may be, besides those of entities. */
  #kept = 0;
  #room = 0;
  #hasEntities = false;
  #counts: number[] = [];
  readonly #ofEntity = new FieldCursor();

  fix(signal: Signal, body: Buffer): Fixed {
    if (signal === 'profiles') return { body, counts: undefined };
    this.#body = body;
    this.#counts = NONE;
    let removed = 0;
    for (const field = this.#fields(0, body.byteLength); field.next(); ) {
      if (field.number !== 1) continue;
      const opened = this.#open(field);
      removed += this.#close(opened, field, this.#resource(signal, field.start, field.end));
    }
    const fixed = removed === 0 ? body : this.#edits.written(body, body.byteLength - removed);
    this.#body = EMPTY;
    this.#edits.clear();
    return { body: fixed, counts: removed === 0 ? undefined : this.#counts };
  }

  /** @returns number of bytes removed from the content */
  #resource(signal: Signal, start: number, end: number): number {
    let removed = 0;
    const first = this.#edits.end;
    this.#broken = 0;
    // The resource may come after its scopes, so it is read first.
    this.#begin('resource', start, end, 1, 1);
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number !== 1) continue;
      const opened = this.#open(field);
      removed += this.#close(opened, field, this.#owner(field.start, field.end, 1));
    }
    const ofResource = this.#broken;
    const ofScopes = this.#edits.end;
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number !== 2) continue;
      const opened = this.#open(field);
      removed += this.#close(opened, field, this.#scope(signal, field.start, field.end, ofResource));
    }
    this.#edits.merge(first, ofScopes);
    return removed;
  }

  #scope(signal: Signal, start: number, end: number, ofResource: number): number {
    let removed = 0;
    const first = this.#edits.end;
    this.#broken = ofResource;
    this.#begin('scope');
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number !== 1) continue;
      const opened = this.#open(field);
      removed += this.#close(opened, field, this.#owner(field.start, field.end, 3));
    }
    const ofScope = this.#broken;
    const ofItems = this.#edits.end;
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number !== 2) continue;
      const opened = this.#open(field);
      if (signal === 'metrics') {
        removed += this.#close(opened, field, this.#metric(field.start, field.end, ofScope));
        continue;
      }
      this.#broken = ofScope;
      this.#begin(signal === 'traces' ? 'span' : 'log');
      const less =
        signal === 'traces'
          ? this.#owner(field.start, field.end, 9, 13, 'span_link')
          : this.#owner(field.start, field.end, 6);
      removed += this.#close(opened, field, less);
      this.#countItem();
    }
    this.#edits.merge(first, ofItems);
    return removed;
  }

  #metric(start: number, end: number, ofScope: number): number {
    let name: Buffer = EMPTY;
    for (const field = this.#fields(start, end); field.next(); )
      if (field.number === 1) name = this.#body.subarray(field.start, field.end);
    let removed = 0;
    for (const field = this.#fields(start, end); field.next(); ) {
      const kind = POINTS[field.number];
      if (!kind) continue;
      const opened = this.#open(field);
      let less = 0;
      for (const data = this.#fields(field.start, field.end); data.next(); ) {
        if (data.number !== 1) continue;
        const openedPoint = this.#open(data);
        this.#broken = ofScope;
        this.#begin('point');
        const exemplars = kind.exemplars || NO_FIELD;
        const { start: from, end: to } = data;
        const lessOfPoint = this.#owner(from, to, kind.attributes, exemplars, 'exemplar', name);
        less += this.#close(openedPoint, data, lessOfPoint);
        this.#countItem();
      }
      removed += this.#close(opened, field, less);
    }
    return removed;
  }

  /**
   * Begins an owner, whose attributes follow in one message or several.
   * @param inside for a resource: their range and fields, to find those of entities first
   */
  #begin(owner: Owner, start = 0, end = 0, message = NO_FIELD, number = NO_FIELD): void {
    this.#kept = 0;
    this.#room = LIMITS.attributesOf[owner];
    this.#hasEntities = false;
    if (message === NO_FIELD) return;
    if (!this.#hasMore(this.#room, start, end, message, number)) return;
    const ofEntities = this.#entitiesOf(start, end);
    if (ofEntities === 0) return;
    this.#hasEntities = true;
    this.#room = Math.max(0, this.#room - ofEntities);
  }

  #hasMore(most: number, start: number, end: number, message: number, number: number): boolean {
    let all = 0;
    for (const outer = this.#fields(start, end); outer.next(); ) {
      if (outer.number !== message) continue;
      for (const field = this.#fields(outer.start, outer.end); field.next(); )
        if (field.number === number && ++all > most) return true;
    }
    return false;
  }

  #entitiesOf(start: number, end: number): number {
    let found = 0;
    for (const outer = this.#fields(start, end); outer.next(); ) {
      if (outer.number !== 1) continue;
      for (const field = this.#fields(outer.start, outer.end); field.next(); )
        if (field.number === 1 && this.#isOfEntity(field.start, field.end)) found++;
    }
    return found <= ENTITY_ATTRIBUTES.length ? found : 0; // names that repeat identify nothing
  }

  #isOfEntity(start: number, end: number): boolean {
    const field = this.#ofEntity.reset(this.#body, start, end);
    while (field.next()) {
      if (field.number !== 1 || !ENTITY_LENGTHS.has(field.end - field.start)) continue;
      const key = this.#body.subarray(field.start, field.end);
      if (ENTITY_ATTRIBUTES.some((name) => name.equals(key))) return true;
    }
    return false;
  }

  /**
   * A message with attributes.
   * @param unsupported field that is removed whatever it contains
   */
  #owner(
    start: number,
    end: number,
    attributes: number,
    unsupported = NO_FIELD,
    rule: CheckRule = 'exemplar',
    metricName: Buffer = EMPTY,
  ): number {
    let removed = 0;
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number === unsupported) removed += this.#prune(field, rule);
      else if (field.number === attributes) removed += this.#attribute(field, metricName);
    }
    return removed;
  }

  #attribute(attribute: FieldCursor, metricName: Buffer): number {
    const { start, end } = attribute;
    const isOfEntity = this.#hasEntities && this.#isOfEntity(start, end);
    if (!isOfEntity && this.#kept >= this.#room) return this.#prune(attribute, 'attributes_too_many');
    let isLong = false;
    for (const field = this.#fields(start, end); field.next(); ) {
      const length = field.end - field.start;
      if (field.number === 1) {
        if (length > LIMITS.nameChars) isLong = true;
        else if (length === metricName.byteLength && length > 0 && this.#equals(field.start, metricName))
          return this.#prune(attribute, 'attribute_named_as_metric');
      } else if (field.number === 2) {
        const rule = this.#ruleOf(field.start, field.end);
        if (rule) return this.#prune(attribute, rule);
        if (length > LIMITS.valueChars) isLong = true;
      }
    }
    if (!isOfEntity) this.#kept++;
    if (!isLong) return 0;
    const opened = this.#open(attribute);
    return this.#close(opened, attribute, this.#shorten(start, end));
  }

  /** @returns the rule by which a value must be removed, if any */
  #ruleOf(start: number, end: number): CheckRule | undefined {
    for (const value = this.#fields(start, end); value.next(); ) {
      if (value.number === 6) return 'attribute_type';
      if (value.number === 7 && value.end - value.start > LIMITS.bytesValue) return 'attribute_bytes';
      if (value.number !== 5) continue;
      const rule = this.#ruleOfArray(value.start, value.end);
      if (rule) return rule;
    }
    return undefined;
  }

  #ruleOfArray(start: number, end: number): CheckRule | undefined {
    let [entries, kinds] = [0, 0];
    for (const list = this.#fields(start, end); list.next() && entries < ENTRIES_MAX; ) {
      if (list.number !== 1) continue;
      entries++;
      for (const entry = this.#fields(list.start, list.end); entry.next(); )
        if (entry.number < 8) kinds |= 1 << entry.number;
    }
    const isMixed = (kinds & (kinds - 1)) !== 0;
    if (isMixed || (kinds & ((1 << 5) | (1 << 6))) !== 0) return 'attribute_type';
    return entries > LIMITS.arrayEntries ? 'attribute_array' : undefined;
  }

  /** Shortens the name and the text of an attribute, at least one of which may be too long. */
  #shorten(start: number, end: number): number {
    let removed = 0;
    for (const field = this.#fields(start, end); field.next(); ) {
      if (field.number === 1) removed += this.#cut(field, LIMITS.nameChars, 'attribute_name');
      if (field.number !== 2) continue;
      const opened = this.#open(field);
      let less = 0;
      for (const value = this.#fields(field.start, field.end); value.next(); )
        if (value.number === 1) less += this.#cut(value, LIMITS.valueChars, 'attribute_value');
      removed += this.#close(opened, field, less);
    }
    return removed;
  }

  /** Keeps the first characters of a text. */
  #cut(text: FieldCursor, chars: number, rule: CheckRule): number {
    const { start, end } = text;
    if (end - start <= chars) return 0;
    const kept = this.#lengthOf(start, end, chars);
    if (start + kept === end) return 0;
    this.#broken |= BIT[rule];
    const opened = this.#open(text);
    this.#edits.leaveOut(start + kept, end);
    return this.#close(opened, text, end - start - kept);
  }

  /**
   * Length in bytes of the first characters, counted in UTF-16 units as JavaScript and Java do. Surrogate pairs are not split.
   */
  #lengthOf(start: number, end: number, chars: number): number {
    const body = this.#body;
    if (isAscii(body.subarray(start, start + chars))) return chars;
    let units = 0;
    for (let at = start; at < end; ) {
      const byte = body[at]!;
      const length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
      units += length === 4 ? 2 : 1;
      if (units > chars) return at - start;
      at += length;
    }
    return end - start;
  }

  #prune(field: FieldCursor, rule: CheckRule): number {
    this.#broken |= BIT[rule];
    this.#edits.leaveOut(field.tagStart, field.end);
    return field.end - field.tagStart;
  }

  /** Opens a field whose length may change. @returns handle for `#close` */
  #open({ tagStart, start }: FieldCursor): number {
    return this.#edits.open(this.#lengthStart(tagStart), start);
  }

  /**
   * Closes a field whose content has shrunk by `removed` bytes.
   * @returns by how much the whole field has shrunk, including its length
   */
  #close(opened: number, { tagStart, start, end }: FieldCursor, removed: number): number {
    if (removed === 0) {
      this.#edits.close(opened, undefined);
      return 0;
    }
    const length = end - start - removed;
    this.#edits.close(opened, length);
    return removed + (start - this.#lengthStart(tagStart)) - varintBytes(length);
  }

  #lengthStart(tagStart: number): number {
    let at = tagStart;
    while (this.#body[at]! >= 0x80) at++;
    return at + 1;
  }

  #countItem(): void {
    if (this.#broken === 0) return;
    if (this.#counts === NONE) this.#counts = [...NONE];
    for (let place = 0, left = this.#broken; left !== 0; place++, left >>>= 1)
      if ((left & 1) !== 0) this.#counts[place]!++;
  }

  #equals(start: number, name: Buffer): boolean {
    return name.equals(this.#body.subarray(start, start + name.byteLength));
  }

  #fields(start: number, end: number): FieldCursor {
    return new FieldCursor().reset(this.#body, start, end);
  }
}

const NONE = CHECK_RULE_NAMES.map(() => 0);

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}
