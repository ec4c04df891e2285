import { OtlpError } from './error.ts';
import { discard } from './join.ts';

/** Most bytes for which room is made without being sure that they are needed. */
const SLACK_BYTES = 10;
/** Shorter ranges are copied byte by byte, which costs less than a call. */
const CALL_FROM_BYTES = 24;

/**
 * Writes protobuf forwards into a growing buffer. A message's length is known only at its end: one byte is reserved for it, and
 * a message that needs more is moved up.
 */
export class WireWriter {
  #bytes: Buffer;
  #at = 0;

  readonly #maxBytes: number;

  /** @param maxBytes what would need more is refused with 413, before memory is taken for it */
  constructor(sizeHint: number, maxBytes = Number.POSITIVE_INFINITY) {
    this.#bytes = Buffer.allocUnsafe(Math.max(256, Math.min(sizeHint, maxBytes)));
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#at;
  }

  /** The bytes written; valid until the next write. */
  finish(): Buffer {
    if (this.#at > this.#maxBytes) throw this.#tooLarge();
    return this.#bytes.subarray(0, this.#at);
  }

  /** Discards what was written after `at`. */
  truncate(at: number): void {
    this.#at = at;
  }

  varint(value: number): void {
    this.#room(10);
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#at++] = rest;
  }

  /** A 64-bit value in two halves, unsigned. */
  varint64(low: number, high: number): void {
    this.#room(10);
    let lo = low >>> 0;
    let hi = high >>> 0;
    while (hi > 0 || lo >= 0x80) {
      this.#bytes[this.#at++] = (lo & 0x7f) | 0x80;
      lo = ((lo >>> 7) | (hi << 25)) >>> 0;
      hi >>>= 7;
    }
    this.#bytes[this.#at++] = lo;
  }

  fixed32(value: number): void {
    this.#room(4);
    this.#at = this.#bytes.writeUInt32LE(value >>> 0, this.#at);
  }

  fixed64(low: number, high: number): void {
    this.#room(8);
    this.#at = this.#bytes.writeUInt32LE(low >>> 0, this.#at);
    this.#at = this.#bytes.writeUInt32LE(high >>> 0, this.#at);
  }

  double(value: number): void {
    this.#room(8);
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  bytes(source: Uint8Array, start: number, end: number): void {
    this.varint(end - start);
    this.#room(end - start);
    this.#bytes.set(source.subarray(start, end), this.#at);
    this.#at += end - start;
  }

  /** Copies whole fields. */
  raw(source: Uint8Array, start: number, end: number): void {
    this.#room(end - start);
    if (end - start >= CALL_FROM_BYTES) {
      this.#bytes.set(source.subarray(start, end), this.#at);
      this.#at += end - start;
    } else for (let at = start; at < end; at++) this.#bytes[this.#at++] = source[at]!;
  }

  text(value: string): void {
    const length = Buffer.byteLength(value);
    this.varint(length);
    this.#room(length);
    this.#at += this.#bytes.write(value, this.#at, 'utf8');
  }

  /** Raw bytes without a length. */
  byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#at++] = value;
  }

  /** Begins a length-delimited field. @returns handle for `close` */
  open(): number {
    this.#room(1);
    return this.#at++;
  }

  close(opened: number): void {
    const length = this.#at - opened - 1;
    if (length < 0x80) {
      this.#bytes[opened] = length;
      return;
    }
    const extra = Math.ceil(Math.log2(length + 1) / 7) - 1;
    this.#room(extra);
    this.#bytes.copyWithin(opened + 1 + extra, opened + 1, this.#at);
    this.#at += extra;
    let rest = length;
    let at = opened;
    while (rest >= 0x80) {
      this.#bytes[at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[at] = rest;
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#bytes.byteLength) return;
    const maxBytes = this.#maxBytes + SLACK_BYTES;
    if (needed > maxBytes) throw this.#tooLarge();
    const smaller = this.#bytes;
    this.#bytes = Buffer.allocUnsafe(Math.min(maxBytes, Math.max(smaller.byteLength * 2, needed)));
    smaller.copy(this.#bytes, 0, 0, this.#at);
    discard(smaller);
  }

  #tooLarge(): OtlpError {
    return new OtlpError(
      413,
      'too_large',
      `the body is larger than ${this.#maxBytes} bytes when converted; send smaller batches or raise receiver.max_body`,
    );
  }
}
