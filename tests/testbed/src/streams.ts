/**
 * The metric streams in requests, counted independently of the product: resource attributes + scope + name, unit, type,
 * temporality, monotonicity + point attributes, whatever the order of attributes.
 */
import { each } from './item-reader.ts';

/** Field numbers of a data point's attributes, by the metric's kind. */
const POINT_ATTRIBUTES = new Map([
  [5, 7],
  [7, 7],
  [9, 9],
  [10, 1],
  [11, 7],
]);
const MAX_STREAMS = 4_000_000;

/** Distinct streams. Memory: one number for each, at most four million. */
export class Streams {
  readonly #seen = new Set<number>();

  get size(): number {
    return this.#seen.size;
  }

  /** Takes a decompressed protobuf request of metrics. */
  take(body: Buffer): void {
    each(body, 0, body.byteLength, (number, start, end) => {
      if (number !== 1) return;
      const resource = attributesOfChild(body, start, end, 1, 1);
      each(body, start, end, (inner, scopeStart, scopeEnd) => {
        if (inner === 2) this.#takeScope(body, scopeStart, scopeEnd, resource);
      });
    });
  }

  #takeScope(body: Buffer, start: number, end: number, resource: number): void {
    let scope = resource;
    each(body, start, end, (number, from, to) => {
      if (number === 1) scope = mix(resource, hash(body, from, to));
    });
    each(body, start, end, (number, from, to) => {
      if (number === 2) this.#takeMetric(body, from, to, scope);
    });
  }

  #takeMetric(body: Buffer, start: number, end: number, scope: number): void {
    let metric = scope;
    each(body, start, end, (number, from, to) => {
      if (number === 1 || number === 3) metric = mix(metric, mix(number, hash(body, from, to)));
    });
    each(body, start, end, (kind, from, to) => {
      const attributes = POINT_ATTRIBUTES.get(kind);
      if (attributes === undefined) return;
      let type = mix(metric, kind);
      each(body, from, to, (number, at) => {
        if (number !== 1) type = mix(type, mix(number, body[at]!));
      });
      each(body, from, to, (number, pointStart, pointEnd) => {
        if (number !== 1 || this.#seen.size >= MAX_STREAMS) return;
        this.#seen.add(mix(type, attributesOf(body, pointStart, pointEnd, attributes)));
      });
    });
  }
}

function attributesOfChild(body: Buffer, start: number, end: number, child: number, field: number): number {
  let sum = 0;
  each(body, start, end, (number, from, to) => {
    if (number === child) sum += attributesOf(body, from, to, field);
  });
  return sum;
}

/** The same for any order. */
function attributesOf(body: Buffer, start: number, end: number, field: number): number {
  let sum = 0;
  each(body, start, end, (number, from, to) => {
    if (number === field) sum = (sum + hash(body, from, to)) % BOUND;
  });
  return sum;
}

/** Hashes are whole numbers below this; a million of them collide with a chance of one in ten thousand. */
const BOUND = 2 ** 52;
const HIGH = 2 ** 26;

/** FNV-1a and a multiplicative hash beside it, 26 bits of each. */
function hash(body: Buffer, start: number, end: number): number {
  let a = 0x811c9dc5;
  let b = 0x9e3779b9;
  for (let at = start; at < end; at += 1) {
    a = Math.imul(a ^ body[at]!, 0x01000193);
    b = Math.imul(b ^ body[at]!, 0x85ebca6b) ^ (b >>> 15);
  }
  return (a >>> 6) * HIGH + (b >>> 6);
}

function mix(left: number, right: number): number {
  const a = Math.imul((left / HIGH) ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(right % HIGH, 0xc2b2ae35);
  const b = Math.imul((left % HIGH) ^ 0x27d4eb2f, 0x165667b1) ^ Math.imul(right / HIGH, 0x85ebca77);
  return ((a ^ (a >>> 15)) >>> 6) * HIGH + ((b ^ (b >>> 13)) >>> 6);
}
