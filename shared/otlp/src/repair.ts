import { isUtf8 } from 'node:buffer';
import { FieldCursor } from './fields.ts';
import { exponentialContradicts, histogramContradicts } from './histogram-counts.ts';
import { pathTo } from './path.ts';
import { type Field, MESSAGES, messageIndex } from './schema.ts';
import { SIGNALS, type Signal } from './signal.ts';
import { inspect, type WalkOptions, walk } from './walk.ts';
import { WireWriter } from './wire-writer.ts';

/** What to do with an item that has a string that is not valid UTF-8. */
export type InvalidUtf8 = 'reject_item' | 'replace';

export interface Repaired {
  /** Valid. */
  body: Buffer;
  /** Number of items left out. */
  rejected: number;
  /** What was done and why, for the client, with the first position of each kind. */
  message: string;
}

export interface Sound extends Repaired {
  items: number;
}

/** The request is too large to be repaired here; nothing was done. */
export class TooMuchToMend extends Error {}

/**
 * Validates a request, counts its items, and repairs or leaves out invalid ones.
 * @returns the same buffer if all of it is valid
 * @throws TooMuchToMend if it is not, and larger than `mendMaxBytes`
 * @throws OtlpError 400 if it is malformed as a whole, and with `reject_request` for a string that is not valid UTF-8
 */
export function soundRequest(
  signal: Signal,
  body: Buffer,
  options: WalkOptions & {
    invalidUtf8: InvalidUtf8 | 'reject_request';
    mendMaxBytes?: number | undefined;
    maxBodyBytes?: number | undefined;
    /** Items of what the client sent are missing in `body`, so that positions in it would mislead. */
    isReduced?: boolean;
  },
): Sound {
  const { items, flaws } = inspect(signal, body, options);
  if (flaws === 0) return { body, items, rejected: 0, message: '' };
  const { invalidUtf8, mendMaxBytes = Number.POSITIVE_INFINITY } = options;
  if (body.byteLength > mendMaxBytes) throw new TooMuchToMend();
  if (invalidUtf8 === 'reject_request') walk(signal, body, options); // says where
  const repaired = new Repair(signal, body, { ...options, replaces: invalidUtf8 === 'replace' }).run();
  return { ...repaired, items: walk(signal, repaired.body, options).items };
}

const HISTOGRAM_POINT = messageIndex('HistogramDataPoint');
const EXPONENTIAL_POINT = messageIndex('ExponentialHistogramDataPoint');
const WITHOUT_ID = new Set([messageIndex('LogRecord'), messageIndex('Exemplar')]);

/** The first flaw of a kind: a byte of its field's tag or length, and a description. */
interface Place {
  at: number;
  isBad: string;
}

/**
 * Rewrites a well-formed request without its invalid items, so that the others can be kept: strings that are not valid UTF-8
 * (the item is left out, or the bytes become U+FFFD; in a resource, scope or metric this affects all items below), ids of a wrong
 * length (a span is left out; a log record or exemplar loses the id, see logs.proto and metrics.proto), and histograms that
 * contradict themselves. Only for requests in which `inspect` has found flaws, so it may take the time to rewrite everything;
 * but all items may be flawed: none throws (a stack trace each), and few paths are computed.
 */
class Repair {
  readonly #body: Uint8Array;
  readonly #signal: Signal;
  readonly #root: number;
  readonly #replaces: boolean;
  readonly #isReduced: boolean;
  readonly #out: WireWriter;
  #rejected = 0;
  #replaced = 0;
  #withoutId = 0;
  #firstRejected: Place | undefined;
  #firstReplaced: Place | undefined;
  #firstWithoutId: Place | undefined;

  /** @param options `replaces`: bytes that are not valid UTF-8, instead of leaving their items out */
  constructor(
    signal: Signal,
    body: Uint8Array,
    options: { replaces: boolean; maxBodyBytes?: number | undefined; isReduced?: boolean },
  ) {
    this.#signal = signal;
    this.#root = SIGNALS[signal].request!;
    this.#body = body;
    this.#replaces = options.replaces;
    this.#isReduced = options.isReduced ?? false;
    this.#out = new WireWriter(body.byteLength, options.maxBodyBytes);
  }

  run(): Repaired {
    this.#message(0, this.#body.byteLength, this.#root);
    const { item } = SIGNALS[this.#signal];
    const said = [
      this.#rejected > 0 ? `rejected ${plural(this.#rejected, item)}${this.#first(this.#firstRejected)}` : '',
      this.#replaced > 0
        ? `replaced invalid UTF-8 with U+FFFD in ${plural(this.#replaced, 'string')}${this.#first(this.#firstReplaced)}`
        : '',
      this.#withoutId > 0
        ? `ignored ${plural(this.#withoutId, 'id')} of the wrong length${this.#first(this.#firstWithoutId)}`
        : '',
    ];
    return { body: this.#out.finish(), rejected: this.#rejected, message: said.filter(Boolean).join('. ') };
  }

  /** @returns whether it is kept: it has no flaws outside of the items below it */
  #message(start: number, end: number, message: number): boolean {
    // The byte before is the end of its length.
    if (message === HISTOGRAM_POINT && histogramContradicts(this.#body, start, end))
      return this.#flawed(start - 1, 'bucket_counts do not match explicit_bounds and count');
    if (message === EXPONENTIAL_POINT && exponentialContradicts(this.#body, start, end))
      return this.#flawed(start - 1, 'the counts of the buckets do not add up to count');
    const cursor = new FieldCursor(this.#body, start, end);
    while (cursor.next()) {
      const field = MESSAGES[message]!.byNumber.get(cursor.number);
      if (field === undefined || cursor.wireType !== 2) {
        this.#out.raw(this.#body, cursor.tagStart, cursor.end);
        continue;
      }
      if (field.isBranch) this.#branch(cursor, field.child);
      else if (field.child >= 0) {
        if (!this.#child(cursor, field.child)) return false;
      } else if (!this.#scalar(cursor, field, message)) return false;
    }
    return true;
  }

  #child(cursor: FieldCursor, message: number): boolean {
    this.#out.varint(cursor.number * 8 + 2);
    const opened = this.#out.open();
    if (!this.#message(cursor.start, cursor.end, message)) return false;
    this.#out.close(opened);
    return true;
  }

  /** An item or a message that contains some: left out if it has a flaw that is not within an item below it. */
  #branch(cursor: FieldCursor, message: number): void {
    const before = { length: this.#out.length, rejected: this.#rejected };
    if (this.#child(cursor, message)) return;
    this.#out.truncate(before.length);
    this.#rejected = before.rejected + itemsOf(this.#body, cursor, message);
  }

  #scalar(cursor: FieldCursor, { type, idBytes }: Field, message: number): boolean {
    const { start, end, tagStart } = cursor;
    if (type === 'string' && !isUtf8(this.#body.subarray(start, end))) {
      const isBad = 'is not valid UTF-8';
      if (!this.#replaces) return this.#flawed(tagStart, isBad);
      this.#replaced++;
      this.#firstReplaced ??= { at: tagStart, isBad: '' };
      this.#out.varint(cursor.number * 8 + 2);
      this.#out.text(Buffer.from(this.#body.subarray(start, end)).toString('utf8'));
      return true;
    }
    if (type === 'id' && end > start && end - start !== idBytes) {
      const isBad = `is not an id of ${idBytes} bytes`;
      if (!WITHOUT_ID.has(message)) return this.#flawed(tagStart, isBad);
      this.#withoutId++;
      this.#firstWithoutId ??= { at: tagStart, isBad };
      return true;
    }
    this.#out.raw(this.#body, tagStart, end);
    return true;
  }

  #flawed(at: number, isBad: string): false {
    this.#firstRejected ??= { at, isBad };
    return false;
  }

  #first(place: Place | undefined): string {
    if (!place) return '';
    if (!this.#isReduced)
      return `; the first: ${pathTo(place.at, this.#root, this.#body)} ${place.isBad}`.trimEnd();
    return place.isBad && `; of the first, a value ${place.isBad}`;
  }
}

function itemsOf(body: Uint8Array, { start, end }: FieldCursor, message: number): number {
  if (MESSAGES[message]!.item) return 1;
  let items = 0;
  const cursor = new FieldCursor(body, start, end);
  while (cursor.next()) {
    const field = MESSAGES[message]!.byNumber.get(cursor.number);
    if (field?.isBranch) items += itemsOf(body, cursor, field.child);
  }
  return items;
}

export function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
