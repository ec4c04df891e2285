/**
 * Requests encoded once and filled in many times: a copy of some 150 KB and a few stores per item, instead of an
 * encoder's run over 500 objects.
 */

import { type ContentOptions, content, HISTOGRAM_SUM } from './content.ts';
import {
  type Encoded,
  encodeJson,
  encodeProtobuf,
  JSON_NUMBER_WIDTH,
  JSON_TIME_WIDTH,
  SLOT,
  SLOT_COUNT,
} from './encoder.ts';
import {
  CHECKSUM_OFFSET,
  checksum,
  hex8,
  identityCode,
  lowOf,
  mix32,
  readableId,
  writeSpanId,
  writeTraceId,
} from './identity.ts';
import type { MetricKind } from './workload.ts';

export interface Template {
  code: number;
  items: number;
  kinds: readonly MetricKind[];
  protobuf: Encoded;
  /** Only when JSON is to be sent. */
  json: Encoded | undefined;
}

/** Gives points their key-sets: each group counts round and round through its own. */
export class SeriesCounter {
  readonly size: number;
  readonly #salt: number;
  #next = 0;
  /** Set by `advance`. */
  index = 0;
  round = 0;

  constructor(size: number, salt: number) {
    this.size = size;
    this.#salt = salt;
  }

  advance(): void {
    this.index = this.#next % this.size;
    this.round = Math.floor(this.#next / this.size);
    this.#next += 1;
  }

  /** 32 bits that differ for each index of this group. */
  get uid(): number {
    return mix32((this.index + this.#salt) >>> 0);
  }
}

export interface Filling {
  run: number;
  /** Sequence of the first item. */
  from: number;
  /** When the request was meant to be sent, in microseconds since 1970: the time that items carry. */
  sendUs: number;
  /** When the run began: the start time of cumulative streams. */
  startUs: number;
  series: (kind: MetricKind) => SeriesCounter;
  /** Every delta sum is 1. */
  unitValues: boolean;
}

export interface Filled {
  body: Buffer;
  /** Sum over delta sums and histograms, for tests that check that totals are conserved. */
  deltaSum: number;
}

export function template(options: ContentOptions, format: 'protobuf' | 'json'): Template {
  const { request, kinds } = content(options);
  return {
    code: identityCode(options.signal, options.class),
    items: options.items,
    kinds,
    protobuf: encodeProtobuf(options.signal, request),
    json: format === 'json' ? encodeJson(options.signal, request) : undefined,
  };
}

const DELTA_INTERVAL_US = 10_000_000;
const MAX_DURATION_US = 100_000;

/** A request of its own made from the template. */
export function fill(template: Template, filling: Filling): Filled {
  const { bytes, slots, bounds } = template.protobuf;
  const body = Buffer.allocUnsafe(bytes.length);
  body.set(bytes);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const json = template.json === undefined ? undefined : Buffer.from(template.json.bytes);
  const { run, from, sendUs } = filling;
  let deltaSum = 0;

  for (let item = 0; item < template.items; item += 1) {
    const row = item * SLOT_COUNT;
    const sequence = from + item;
    const low = lowOf(run, sequence);
    const kind = template.kinds[item];
    let uid: number;
    let variant: number;
    let value = 0;
    let startUs: number;
    if (kind === undefined) {
      uid = mix32(sequence >>> 4);
      variant = uid;
      startUs = sendUs - (low % MAX_DURATION_US);
    } else {
      const series = filling.series(kind);
      series.advance();
      uid = series.uid;
      variant = series.index;
      startUs = kind === 'cumulativeSum' ? filling.startUs : sendUs - DELTA_INTERVAL_US;
      value = filling.unitValues ? 1 : 1 + (variant % 10);
      if (kind === 'cumulativeSum') value *= series.round + 1;
      else if (kind === 'sum') deltaSum += value;
      else if (kind !== 'gauge') deltaSum += HISTOGRAM_SUM;
    }
    const status = 200 + 100 * (variant % 3);
    const host = variant % 1000;

    let at = slots[row + SLOT.traceId]!;
    const traceId = at;
    if (at >= 0) writeTraceId(view, at, template.code, run, low);
    if ((at = slots[row + SLOT.spanId]!) >= 0) writeSpanId(view, at, run, low);
    if ((at = slots[row + SLOT.parentSpanId]!) >= 0) writeSpanId(view, at, run, lowOf(run, sequence - 1));
    if ((at = slots[row + SLOT.startTime]!) >= 0) writeTime(view, at, startUs);
    if ((at = slots[row + SLOT.sendTime]!) >= 0) writeTime(view, at, sendUs);
    if ((at = slots[row + SLOT.exemplarTime]!) >= 0) writeTime(view, at, sendUs);
    if ((at = slots[row + SLOT.value]!) >= 0) view.setFloat64(at, value, true);
    if ((at = slots[row + SLOT.host]!) >= 0) writeDigits(body, at, host, 4);
    if ((at = slots[row + SLOT.uid]!) >= 0) writeHex(body, at, uid);
    if ((at = slots[row + SLOT.status]!) >= 0) {
      body[at] = (status & 127) | 128;
      body[at + 1] = status >>> 7;
    }
    if ((at = slots[row + SLOT.readableId]!) >= 0) body.write(readableId(run, sequence), at, 'latin1');
    if (traceId >= 0) {
      const sum = checksum(view, bounds[2 * item]!, bounds[2 * item + 1]!);
      view.setUint32(traceId + CHECKSUM_OFFSET, sum);
    }

    if (json === undefined) continue;
    // The ids, checksum included, are those of the protobuf form: a gateway converts one into the other.
    const places = template.json!.slots;
    const textOf = (slot: number, text: string) => {
      const place = places[row + slot]!;
      if (place >= 0) json.write(text, place, 'latin1');
    };
    const hexOf = (slot: number, length: number) => {
      const source = slots[row + slot]!;
      if (source >= 0) textOf(slot, body.toString('hex', source, source + length));
    };
    hexOf(SLOT.traceId, 16);
    hexOf(SLOT.spanId, 8);
    hexOf(SLOT.parentSpanId, 8);
    textOf(SLOT.startTime, timeText(startUs));
    textOf(SLOT.sendTime, timeText(sendUs));
    textOf(SLOT.exemplarTime, timeText(sendUs));
    textOf(SLOT.value, String(value).padEnd(JSON_NUMBER_WIDTH));
    textOf(SLOT.host, String(host).padStart(4, '0'));
    textOf(SLOT.uid, hex8(uid));
    textOf(SLOT.status, String(status));
    textOf(SLOT.readableId, readableId(run, sequence));
  }
  return { body: json ?? body, deltaSum };
}

const TWO_32 = 4294967296;

/** Microseconds, exact in a double, as 64-bit nanoseconds without BigInt. */
function writeTime(view: DataView, at: number, us: number): void {
  const low = (us % TWO_32) * 1000;
  view.setUint32(at, low % TWO_32, true);
  view.setUint32(at + 4, Math.floor(us / TWO_32) * 1000 + Math.floor(low / TWO_32), true);
}

function timeText(us: number): string {
  return `${us}000`.padStart(JSON_TIME_WIDTH, '0');
}

function writeDigits(body: Buffer, at: number, value: number, digits: number): void {
  let rest = value;
  for (let i = at + digits - 1; i >= at; i -= 1) {
    body[i] = 48 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
}

function writeHex(body: Buffer, at: number, value: number): void {
  for (let i = 0; i < 8; i += 1) {
    const nibble = (value >>> (28 - 4 * i)) & 15;
    body[at + i] = nibble < 10 ? 48 + nibble : 87 + nibble;
  }
}
