/** The input that a target is taking, in memory that both threads see: who takes it may never say anything again. */

const NUMBER = 0;
const LENGTH = 1;
const HEAD_BYTES = 8;
/** More of an input is not kept. The seed and its number say the rest. */
const KEPT_BYTES = 64 * 1024;

export class CurrentInput {
  readonly memory: SharedArrayBuffer;
  readonly #head: Int32Array;
  readonly #kept: Uint8Array;

  constructor(memory = new SharedArrayBuffer(HEAD_BYTES + KEPT_BYTES)) {
    this.memory = memory;
    this.#head = new Int32Array(memory, 0, 2);
    this.#kept = new Uint8Array(memory, HEAD_BYTES);
  }

  /** Before it is taken. */
  begin(bytes: Uint8Array): void {
    this.#kept.set(bytes.subarray(0, KEPT_BYTES));
    Atomics.store(this.#head, LENGTH, Math.min(bytes.byteLength, KEPT_BYTES));
    Atomics.add(this.#head, NUMBER, 1);
  }

  /** How many have been begun: 0 before the first. */
  get number(): number {
    return Atomics.load(this.#head, NUMBER);
  }

  get bytes(): Buffer {
    return Buffer.from(this.#kept.slice(0, Atomics.load(this.#head, LENGTH)));
  }
}
