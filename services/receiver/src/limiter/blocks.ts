import type { Metric } from './admission/metric-table.ts';
import { Hash64, type HashSeeds } from './hash.ts';
import type { MetricNode, ResourceNode, ScopeNode } from './merge/plan.ts';
import { ATTRIBUTES_FIELD } from './wire/metric-kind.ts';
import { Reader } from './wire/reader.ts';
import { ATTRIBUTE_WORDS, LISTED_MAX, scanAttributes } from './wire/scan.ts';

/** The three messages around the points. Each occurs once, in one piece, which `isRegular` has checked. */
const reader = new Reader();
const hash = new Hash64();

/** The current ResourceMetrics message. */
export class ResourceBlock {
  tagStart = 0;
  start = 0;
  end = 0;
  /** Content of its Resource message; empty range if there is none. */
  resourceStart = 0;
  resourceEnd = 0;
  lo = 0;
  hi = 0;
  /** Its attributes, as a scan records them. */
  readonly attributes = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);
  listed = 0;
  node: ResourceNode | undefined;

  read(body: Uint8Array, tagStart: number, start: number, end: number, seeds: HashSeeds): void {
    this.tagStart = tagStart;
    this.start = this.resourceStart = this.resourceEnd = start;
    this.end = end;
    this.node = undefined;
    reader.open(body, start, end);
    while (reader.next()) {
      if (reader.field !== 1 || reader.wire !== 2) continue;
      this.resourceStart = reader.start;
      this.resourceEnd = reader.end;
    }
    this.listed = scanAttributes(
      body,
      this.resourceStart,
      this.resourceEnd,
      1,
      seeds.resourceLo,
      seeds.resourceHi,
      this.attributes,
      0,
      hash,
    );
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The current ScopeMetrics message. */
export class ScopeBlock {
  tagStart = 0;
  start = 0;
  end = 0;
  lo = 0;
  hi = 0;
  node: ScopeNode | undefined;
  readonly #unlisted = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);

  read(body: Uint8Array, tagStart: number, start: number, end: number, seeds: HashSeeds): void {
    this.tagStart = tagStart;
    this.start = start;
    this.end = end;
    this.node = undefined;
    let scopeStart = start;
    let scopeEnd = start;
    reader.open(body, start, end);
    while (reader.next()) {
      if (reader.field !== 1 || reader.wire !== 2) continue;
      scopeStart = reader.start;
      scopeEnd = reader.end;
    }
    const { scopeLo, scopeHi } = seeds;
    scanAttributes(body, scopeStart, scopeEnd, 3, scopeLo, scopeHi, this.#unlisted, 0, hash);
    const { lo, hi } = hash;
    let nameStart = 0;
    let nameEnd = 0;
    let versionStart = 0;
    let versionEnd = 0;
    reader.open(body, scopeStart, scopeEnd);
    while (reader.next()) {
      if (reader.field === 1) [nameStart, nameEnd] = [reader.start, reader.end];
      else if (reader.field === 2) [versionStart, versionEnd] = [reader.start, reader.end];
    }
    hash.set(scopeLo, scopeHi).bytes(body, nameStart, nameEnd).byte(0xff);
    hash.bytes(body, versionStart, versionEnd).byte(0xfe).mix().add(lo, hi);
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The current Metric message. */
export class MetricBlock {
  tagStart = 0;
  start = 0;
  end = 0;
  nameStart = 0;
  nameEnd = 0;
  nameLo = 0;
  nameHi = 0;
  /** Field number of its data; 0 if it has none that is known. */
  kind = 0;
  dataTagStart = 0;
  dataStart = 0;
  dataEnd = 0;
  /** Number of points found so far. */
  points = 0;
  temporality = 0;
  isMonotonic = false;
  attributesField = 0;
  /** Hash of name, unit, kind, temporality and monotonicity. */
  lo = 0;
  hi = 0;
  /** That hash plus those of resource and scope: the part that all its key-sets share. */
  contextLo = 0;
  contextHi = 0;
  metric!: Metric;
  node: MetricNode | undefined;

  read(body: Uint8Array, tagStart: number, start: number, end: number, seeds: HashSeeds): void {
    this.tagStart = tagStart;
    this.start = start;
    this.end = end;
    this.node = undefined;
    this.kind = this.nameStart = this.nameEnd = this.temporality = 0;
    this.isMonotonic = false;
    this.points = 0;
    let unitStart = 0;
    let unitEnd = 0;
    reader.open(body, start, end);
    while (reader.next()) {
      if (reader.wire !== 2) continue;
      switch (reader.field) {
        case 1:
          this.nameStart = reader.start;
          this.nameEnd = reader.end;
          break;
        case 3:
          unitStart = reader.start;
          unitEnd = reader.end;
          break;
        case 5:
        case 7:
        case 9:
        case 10:
        case 11:
          this.kind = reader.field;
          this.dataTagStart = reader.tagStart;
          this.dataStart = reader.start;
          this.dataEnd = reader.end;
          break;
      }
    }
    this.attributesField = ATTRIBUTES_FIELD[this.kind]!;
    if (this.kind === 0) return;
    reader.open(body, this.dataStart, this.dataEnd);
    while (reader.next()) {
      if (reader.wire !== 0) continue;
      if (reader.field === 2) this.temporality = reader.lo;
      else if (reader.field === 3) this.isMonotonic = reader.lo !== 0;
    }
    hash.set(seeds.metricLo, seeds.metricHi).bytes(body, this.nameStart, this.nameEnd).byte(0xff);
    this.nameLo = hash.lo;
    this.nameHi = hash.hi;
    hash.bytes(body, unitStart, unitEnd).byte(0xff).byte(this.kind);
    hash
      .byte(this.temporality & 0xff)
      .byte(this.isMonotonic ? 1 : 0)
      .mix();
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}
