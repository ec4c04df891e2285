import { constants, createGunzip } from 'node:zlib';

/** Larger bodies are rare, and then one buffer more does not matter. */
const SCRATCH_BYTES = 1024 * 1024;
/** Magic number to trailer: what a member has at least. */
const MEMBER_MIN_BYTES = 18;

/** What Node's zlib streams are made of; not in its documentation, so whoever uses it looks before. */
interface ZlibHandle {
  reset(): void;
  /** Writes how many bytes of output and of input are left into the array that came with the stream. */
  writeSync(
    flush: number,
    input: Buffer,
    inputAt: number,
    inputBytes: number,
    output: Buffer,
    outputAt: number,
    outputBytes: number,
  ): void;
  onerror: (message: string, errno: number, code: string) => void;
}
interface Inner {
  _handle?: Partial<ZlibHandle> | null;
  _writeState?: Uint32Array;
}

/**
 * Decompresses gzip into one buffer that is used again, with one decoder that is used again. `gunzipSync` makes a
 * stream, a decoder and a buffer for each body: 200 to 300 µs for 190 KB against 120 µs, and most of the memory outside the
 * heap for which V8 then collects the whole heap (measured: a quarter of the CPU at the ceiling).
 *
 * It knows the usual case only. Whatever else comes (damage, a body too large, something behind the end, a Node
 * whose zlib looks different) gives undefined, and the caller takes the documented way, which also finds the words for it.
 */
export class ScratchGunzip {
  readonly #handle: ZlibHandle | undefined;
  readonly #left: Uint32Array;
  #scratch: Buffer | undefined;
  #failed = false;

  constructor() {
    const { _handle: handle, _writeState: left } = createGunzip() as unknown as Inner;
    this.#left = left instanceof Uint32Array && left.length >= 2 ? left : new Uint32Array(2);
    if (!left || typeof handle?.reset !== 'function' || typeof handle.writeSync !== 'function') return;
    handle.onerror = () => {
      this.#failed = true;
    };
    this.#handle = handle as ZlibHandle;
  }

  /** @returns a view that the next call overwrites */
  decompress(wire: Buffer, maxBytes: number): Buffer | undefined {
    const handle = this.#handle;
    if (!handle || wire.byteLength < MEMBER_MIN_BYTES) return undefined;
    // The size that the last member says it has.
    if (wire.readUInt32LE(wire.byteLength - 4) >= SCRATCH_BYTES) return undefined;
    this.#scratch ??= Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    const scratch = this.#scratch;
    this.#failed = false;
    handle.reset();
    handle.writeSync(constants.Z_FINISH, wire, 0, wire.byteLength, scratch, 0, SCRATCH_BYTES);
    const [outputLeft = 0, inputLeft = 0] = this.#left;
    const bytes = SCRATCH_BYTES - outputLeft;
    if (this.#failed || outputLeft === 0 || inputLeft > 0 || bytes > maxBytes) return undefined;
    return scratch.subarray(0, bytes);
  }
}
