import type { Metric } from './admission/metric-table.ts';
import { Hash64, type HashSeeds } from './hash.ts';
import type { MetricGroup, MetricNode, ResourceNode, ScopeNode } from './merge/plan.ts';
import {
  ATTRIBUTES_FIELD,
  CUMULATIVE,
  DELTA,
  EXPONENTIAL,
  GAUGE,
  HISTOGRAM,
  SUM,
} from './wire/metric-kind.ts';
import { Reader } from './wire/reader.ts';
import { ATTRIBUTE_WORDS, LISTED_MAX, type Listed, scanAttributes } from './wire/scan.ts';

/** The three messages around the points. Each occurs once, in one piece, which `isRegular` has checked. */
export interface Around {
  readonly resource: ResourceBlock;
  readonly scope: ScopeBlock;
  readonly metric: MetricBlock;
}

const reader = new Reader();
const inner = new Reader();
const hash = new Hash64();

/** A message and its hash. */
class Block {
  tagStart = 0;
  start = 0;
  end = 0;
  lo = 0;
  hi = 0;

  protected take({ tagStart, start, end }: Reader): void {
    this.tagStart = tagStart;
    this.start = start;
    this.end = end;
  }
}

/** Opens field 1 of a message, which is another message, or an empty range at its start. */
function openFirst(body: Uint8Array, start: number, end: number): Reader {
  inner.open(body, start, start);
  reader.open(body, start, end);
  while (reader.next())
    if (reader.field === 1 && reader.wire === 2) inner.open(body, reader.start, reader.end);
  return inner;
}

/** The current ResourceMetrics message. */
export class ResourceBlock extends Block implements Listed {
  readonly place = 'resource';
  readonly attributeAt = 0;
  readonly base = 0;
  /** Attributes of its Resource. */
  readonly attributes = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);
  listed = 0;
  node: ResourceNode | undefined;

  /** @param at the reader that has found the message */
  read(body: Uint8Array, at: Reader, seeds: HashSeeds): void {
    this.take(at);
    this.node = undefined;
    const { pos, limit } = openFirst(body, this.start, this.end);
    this.listed = scanAttributes(body, pos, limit, 1, seeds.resource, this.attributes, 0, hash);
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The current ScopeMetrics message. */
export class ScopeBlock extends Block {
  node: ScopeNode | undefined;
  readonly #unlisted = new Int32Array(LISTED_MAX * ATTRIBUTE_WORDS);

  read(body: Uint8Array, at: Reader, seeds: HashSeeds): void {
    this.take(at);
    this.node = undefined;
    const scope = openFirst(body, this.start, this.end);
    scanAttributes(body, scope.pos, scope.limit, 3, seeds.scope, this.#unlisted, 0, hash);
    const { lo, hi } = hash;
    let nameStart = 0;
    let nameEnd = 0;
    let versionStart = 0;
    let versionEnd = 0;
    while (scope.next()) {
      if (scope.field === 1) [nameStart, nameEnd] = [scope.start, scope.end];
      else if (scope.field === 2) [versionStart, versionEnd] = [scope.start, scope.end];
    }
    hash.set(seeds.scope.lo, seeds.scope.hi).bytes(body, nameStart, nameEnd).byte(0xff);
    hash.bytes(body, versionStart, versionEnd).byte(0xfe).mix().add(lo, hi);
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}

/** The current Metric message. Its hash is that of name, unit, kind, temporality and monotonicity. */
export class MetricBlock extends Block {
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
  isCumulative = false;
  /** A cumulative sum that is not monotonic. */
  isLevel = false;
  /** Points of this kind can be merged. */
  isMergeable = false;
  attributesField = 0;
  /** Its hash plus those of resource and scope: the part that all its key-sets share. */
  contextLo = 0;
  contextHi = 0;
  metric!: Metric;
  node: MetricNode | undefined;
  /** The group that its last stream went to. */
  group: MetricGroup | undefined;

  read(body: Uint8Array, at: Reader, seeds: HashSeeds): void {
    this.take(at);
    this.node = this.group = undefined;
    this.kind = this.nameStart = this.nameEnd = this.points = 0;
    let unitStart = 0;
    let unitEnd = 0;
    reader.open(body, this.start, this.end);
    while (reader.next()) {
      const { field } = reader;
      if (reader.wire !== 2) continue;
      if (field === 1) {
        this.nameStart = reader.start;
        this.nameEnd = reader.end;
      } else if (field === 3) [unitStart, unitEnd] = [reader.start, reader.end];
      else if (ATTRIBUTES_FIELD[field]) {
        this.kind = field;
        this.dataTagStart = reader.tagStart;
        this.dataStart = reader.start;
        this.dataEnd = reader.end;
      }
    }
    const { kind } = this;
    this.attributesField = ATTRIBUTES_FIELD[kind]!;
    if (kind === 0) return;
    let temporality = 0;
    let isMonotonic = false;
    reader.open(body, this.dataStart, this.dataEnd);
    while (reader.next()) {
      if (reader.wire !== 0) continue;
      if (reader.field === 2) temporality = reader.lo;
      else if (reader.field === 3) isMonotonic = reader.lo !== 0;
    }
    this.isCumulative = temporality === CUMULATIVE && kind !== GAUGE;
    this.isLevel = temporality === CUMULATIVE && kind === SUM && !isMonotonic;
    const hasCounts = kind === SUM || kind === HISTOGRAM || kind === EXPONENTIAL;
    this.isMergeable = kind === GAUGE || (hasCounts && (temporality === DELTA || temporality === CUMULATIVE));
    hash.set(seeds.metric.lo, seeds.metric.hi).bytes(body, this.nameStart, this.nameEnd).byte(0xff);
    this.nameLo = hash.lo;
    this.nameHi = hash.hi;
    hash.bytes(body, unitStart, unitEnd).byte(0xff).byte(kind);
    hash
      .byte(temporality & 0xff)
      .byte(isMonotonic ? 1 : 0)
      .mix();
    this.lo = hash.lo;
    this.hi = hash.hi;
  }
}
