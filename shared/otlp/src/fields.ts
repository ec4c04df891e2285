/**
 * Iterates over the fields of a well-formed message without creating objects: the cursor has the position of the current field.
 */
export class FieldCursor {
  #bytes: Uint8Array;
  #at: number;
  #end: number;
  /** Number and wire type of the current field. */
  number = 0;
  wireType = 0;
  /** Start of its tag. */
  tagStart = 0;
  /** Range of its content: the bytes of a length-delimited field, or of the value of others. */
  start = 0;
  end = 0;

  constructor(bytes: Uint8Array = EMPTY, start = 0, end = bytes.byteLength) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** Moves before the first field of a message. */
  reset(bytes: Uint8Array, start: number, end: number): this {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    return this;
  }

  /** Moves to the next field; false at the end. */
  next(): boolean {
    if (this.#at >= this.#end) return false;
    const b = this.#bytes;
    this.tagStart = this.#at;
    let tag = b[this.#at]!;
    if (tag < 0x80) this.#at++;
    else tag = this.#varint();
    this.number = tag >>> 3;
    this.wireType = tag & 7;
    switch (this.wireType) {
      case 2: {
        let length = b[this.#at]!;
        if (length < 0x80) this.#at++;
        else length = this.#varint();
        this.start = this.#at;
        this.end = this.#at + length;
        break;
      }
      case 0:
        this.start = this.#at;
        while (b[this.#at]! >= 0x80) this.#at++;
        this.end = this.#at + 1;
        break;
      case 1:
        this.start = this.#at;
        this.end = this.#at + 8;
        break;
      default:
        this.start = this.#at;
        this.end = this.#at + 4;
    }
    this.#at = this.end;
    return true;
  }

  /** Moves to the next field with this number; false if there is none. */
  find(number: number): boolean {
    while (this.next()) if (this.number === number) return true;
    return false;
  }

  #varint(): number {
    let value = 0;
    let factor = 1;
    while (true) {
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
  }
}

const EMPTY = new Uint8Array(0);

/** The low 32 bits of a varint, signed: enough for enums. */
export function varint32(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let at = start, shift = 0; at < end && shift < 32; at++, shift += 7)
    value |= (bytes[at]! & 0x7f) << shift;
  return value;
}
