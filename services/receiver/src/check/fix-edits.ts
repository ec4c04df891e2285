/** An edit: from, to, and the new length to write instead, plus one; 0 for nothing. */
const WORDS = 3;
const KEPT_WORDS = 3 * 1024;
/** Shorter ranges are copied byte by byte, which costs less than a call. */
const CALL_FROM_BYTES = 24;

/**
 * Edits of a body in order of position: removed bytes, and lengths before them. Adjacent edits become one. A body may need one
 * for every four bytes, so they are plain numbers, 12 bytes each, and never sorted.
 */
export class FixEdits {
  #words = new Uint32Array(KEPT_WORDS);
  #end = 0;
  /** Bytes by which the body has shrunk so far. */
  removed = 0;

  /** Number of words in use. */
  get end(): number {
    return this.#end;
  }

  /** Clears it for the next body, and frees the memory of a body with many edits. */
  clear(): void {
    this.#end = 0;
    this.removed = 0;
    if (this.#words.length > KEPT_WORDS) this.#words = new Uint32Array(KEPT_WORDS);
  }

  leaveOut(from: number, to: number): void {
    this.removed += to - from;
    const last = this.#end - WORDS;
    if (last >= 0 && this.#words[last + 1] === from && this.#words[last + 2] === 0)
      this.#words[last + 1] = to;
    else this.#push(from, to, 0);
  }

  /** Opens a message whose length, at `from` to `to`, may change, before the edits in it. @returns handle for `close` */
  open(from: number, to: number): number {
    this.#push(from, to, this.removed + 1);
    return this.#end - WORDS;
  }

  /** @param bytes length before the edits */
  close(opened: number, bytes: number): void {
    const words = this.#words;
    const length = bytes - (this.removed - (words[opened + 2]! - 1));
    if (length === bytes) {
      this.#end = opened;
      return;
    }
    words[opened + 2] = length + 1;
    this.removed += words[opened + 1]! - words[opened]! - varintBytes(length);
  }

  /** Merges the edits from `middle` on into those from `start` on; both are in order. */
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

  /** @param bytes size of the edited body */
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

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}
