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
    for (const field = this.#fields(0, body.byteLength); field.find(1); ) {
      const opened = this.#open(field);
      this.#resource(signal, field.start, field.end);
      this.#close(opened, field);
    }
    const { removed } = this.#edits;
    const fixed = removed === 0 ? body : this.#edits.written(body, body.byteLength - removed);
    this.#body = EMPTY;
    this.#edits.clear();
    return { body: fixed, counts: removed === 0 ? undefined : this.#counts };
  }

  #resource(signal: Signal, start: number, end: number): void {
    const first = this.#edits.end;
    this.#broken = 0;
    // The resource may come after its scopes, so it is read first.
    this.#begin('resource');
    if (this.#hasMore(this.#room, start, end)) this.#keepRoomForEntities(start, end);
    for (const field = this.#fields(start, end); field.find(1); ) this.#owner(field, 1);
    const ofResource = this.#broken;
    const ofScopes = this.#edits.end;
    for (const field = this.#fields(start, end); field.find(2); ) {
      const opened = this.#open(field);
      this.#scope(signal, field.start, field.end, ofResource);
      this.#close(opened, field);
    }
    this.#edits.merge(first, ofScopes);
  }

  #scope(signal: Signal, start: number, end: number, ofResource: number): void {
    const first = this.#edits.end;
    this.#broken = ofResource;
    this.#begin('scope');
    for (const field = this.#fields(start, end); field.find(1); ) this.#owner(field, 3);
    const ofScope = this.#broken;
    const ofItems = this.#edits.end;
    for (const field = this.#fields(start, end); field.find(2); ) {
      if (signal === 'metrics') {
        const opened = this.#open(field);
        this.#metric(field.start, field.end, ofScope);
        this.#close(opened, field);
        continue;
      }
      this.#broken = ofScope;
      this.#begin(signal === 'traces' ? 'span' : 'log');
      if (signal === 'traces') this.#owner(field, 9, 13, 'span_link');
      else this.#owner(field, 6);
      this.#countItem();
    }
    this.#edits.merge(first, ofItems);
  }

  #metric(start: number, end: number, ofScope: number): void {
    let name: Buffer = EMPTY;
    for (const field = this.#fields(start, end); field.find(1); )
      name = this.#body.subarray(field.start, field.end);
    for (const field = this.#fields(start, end); field.next(); ) {
      const kind = POINTS[field.number];
      if (!kind) continue;
      const opened = this.#open(field);
      for (const data = this.#fields(field.start, field.end); data.find(1); ) {
        this.#broken = ofScope;
        this.#begin('point');
        this.#owner(data, kind.attributes, kind.exemplars || NO_FIELD, 'exemplar', name);
        this.#countItem();
      }
      this.#close(opened, field);
    }
  }

  /** Begins an owner, whose attributes follow in one message or several. */
  #begin(owner: Owner): void {
    this.#kept = 0;
    this.#room = LIMITS.attributesOf[owner];
    this.#hasEntities = false;
  }

  /** Whether a resource has more than so many attributes. */
  #hasMore(most: number, start: number, end: number): boolean {
    let all = 0;
    for (const outer = this.#fields(start, end); outer.find(1); )
      for (const field = this.#fields(outer.start, outer.end); field.find(1); ) if (++all > most) return true;
    return false;
  }

  #keepRoomForEntities(start: number, end: number): void {
    let found = 0;
    for (const outer = this.#fields(start, end); outer.find(1); )
      for (const field = this.#fields(outer.start, outer.end); field.find(1); )
        if (this.#isOfEntity(field.start, field.end)) found++;
    if (found === 0 || found > ENTITY_ATTRIBUTES.length) return; // names that repeat identify nothing
    this.#hasEntities = true;
    this.#room = Math.max(0, this.#room - found);
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

  /** A message with attributes. @param unsupported field that is removed whatever it contains */
  #owner(
    owner: FieldCursor,
    attributes: number,
    unsupported = NO_FIELD,
    rule: CheckRule = 'exemplar',
    metricName: Buffer = EMPTY,
  ): void {
    const opened = this.#open(owner);
    for (const field = this.#fields(owner.start, owner.end); field.next(); ) {
      if (field.number === unsupported) this.#prune(field, rule);
      else if (field.number === attributes) this.#attribute(field, metricName);
    }
    this.#close(opened, owner);
  }

  #attribute(attribute: FieldCursor, metricName: Buffer): void {
    const isOfEntity = this.#hasEntities && this.#isOfEntity(attribute.start, attribute.end);
    const isBeyond = !isOfEntity && this.#kept >= this.#room;
    const flaw = isBeyond ? 'attributes_too_many' : this.#flawOf(attribute, metricName);
    if (flaw !== undefined && flaw !== 'too_long') this.#prune(attribute, flaw);
    else {
      if (!isOfEntity) this.#kept++;
      if (flaw === 'too_long') this.#shorten(attribute);
    }
  }

  /** @returns the rule by which an attribute must be removed, or that its name or text may be too long */
  #flawOf({ start, end }: FieldCursor, metricName: Buffer): CheckRule | 'too_long' | undefined {
    let isLong = false;
    for (const field = this.#fields(start, end); field.next(); ) {
      const length = field.end - field.start;
      if (field.number === 1) {
        if (length > LIMITS.nameChars) isLong = true;
        else if (length === metricName.byteLength && length > 0 && this.#equals(field.start, metricName))
          return 'attribute_named_as_metric';
      } else if (field.number === 2) {
        const rule = this.#ruleOf(field.start, field.end);
        if (rule) return rule;
        if (length > LIMITS.valueChars) isLong = true;
      }
    }
    return isLong ? 'too_long' : undefined;
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
  #shorten(attribute: FieldCursor): void {
    const opened = this.#open(attribute);
    for (const field = this.#fields(attribute.start, attribute.end); field.next(); ) {
      if (field.number === 1) this.#cut(field, LIMITS.nameChars, 'attribute_name');
      if (field.number !== 2) continue;
      const openedValue = this.#open(field);
      for (const value = this.#fields(field.start, field.end); value.find(1); )
        this.#cut(value, LIMITS.valueChars, 'attribute_value');
      this.#close(openedValue, field);
    }
    this.#close(opened, attribute);
  }

  /** Keeps the first characters of a text. */
  #cut(text: FieldCursor, chars: number, rule: CheckRule): void {
    const { start, end } = text;
    if (end - start <= chars) return;
    const kept = this.#lengthOf(start, end, chars);
    if (start + kept === end) return;
    this.#broken |= BIT[rule];
    const opened = this.#open(text);
    this.#edits.leaveOut(start + kept, end);
    this.#close(opened, text);
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

  #prune(field: FieldCursor, rule: CheckRule): void {
    this.#broken |= BIT[rule];
    this.#edits.leaveOut(field.tagStart, field.end);
  }

  /** Opens a field whose length may change. @returns handle for `#close` */
  #open({ tagStart, start }: FieldCursor): number {
    let lengthStart = tagStart + 1;
    while (this.#body[lengthStart - 1]! >= 0x80) lengthStart++;
    return this.#edits.open(lengthStart, start);
  }

  #close(opened: number, { start, end }: FieldCursor): void {
    this.#edits.close(opened, end - start);
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
    return new FieldCursor(this.#body, start, end);
  }
}

const NONE = CHECK_RULE_NAMES.map(() => 0);
