/** A place and what becomes of it: from, to, and the length that stands there instead, plus one; 0 for nothing. */
const WORDS = 3;
const KEPT_WORDS = 3 * 1024;
/** Shorter ones are copied byte by byte, which costs less than a call. */
const CALL_FROM_BYTES = 24;

/**
 * Changes to a body, in the order of their places: bytes left out, and lengths before them. Changes that touch are one. A body may
 * need one for every four of its bytes: so they are plain numbers, 12 bytes each, and never sorted.
 */
export class FixEdits {
  #words = new Uint32Array(KEPT_WORDS);
  #end = 0;

  /** How many words there are. */
  get end(): number {
    return this.#end;
  }

  /** For the next body. What one with many changes took is given back. */
  clear(): void {
    this.#end = 0;
    if (this.#words.length > KEPT_WORDS) this.#words = new Uint32Array(KEPT_WORDS);
  }

  leaveOut(from: number, to: number): void {
    const last = this.#end - WORDS;
    if (last >= 0 && this.#words[last + 1] === from && this.#words[last + 2] === 0)
      this.#words[last + 1] = to;
    else this.#push(from, to, 0);
  }

  /** Opens a message whose length may change, before the changes in it. @returns what closes it */
  open(from: number, to: number): number {
    this.#push(from, to, 1);
    return this.#end - WORDS;
  }

  /** @param length undefined when nothing has changed in it */
  close(opened: number, length: number | undefined): void {
    if (length === undefined) this.#end = opened;
    else this.#words[opened + 2] = length + 1;
  }

  /** Puts those from `middle` on between those from `start` on: each of the two is in order. */
  merge(start: number, middle: number): void {
    const end = this.#end;
    const words = this.#words;
    if (start === middle || middle === end || words[middle]! > words[middle - WORDS]!) return;
    const first = words.slice(start, middle);
    let [at, left, right] = [start, 0, middle];
    while (left < first.length) {
      const isRight = right < end && words[right]! < first[left]!;
      const source = isRight ? words : first;
      const from = isRight ? right : left;
      for (let i = 0; i < WORDS; i++) words[at++] = source[from + i]!;
      if (isRight) right += WORDS;
      else left += WORDS;
    }
  }

  /** @param bytes that the changed body has */
  written(body: Buffer, bytes: number): Buffer {
    const words = this.#words;
    const out = Buffer.allocUnsafe(bytes);
    let [from, at] = [0, 0];
    for (let edit = 0; edit < this.#end; edit += WORDS) {
      const to = words[edit]!;
      if (to - from >= CALL_FROM_BYTES) at += body.copy(out, at, from, to);
      else while (from < to) out[at++] = body[from++]!;
      from = words[edit + 1]!;
      if (words[edit + 2] === 0) continue;
      let length = words[edit + 2]! - 1;
      for (; length >= 0x80; length = Math.floor(length / 0x80)) out[at++] = (length % 0x80) | 0x80;
      out[at++] = length;
    }
    body.copy(out, at, from);
    return out;
  }

  #push(from: number, to: number, length: number): void {
    if (this.#end === this.#words.length) {
      const grown = new Uint32Array(2 * this.#end);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[this.#end++] = from;
    this.#words[this.#end++] = to;
    this.#words[this.#end++] = length;
  }
}
