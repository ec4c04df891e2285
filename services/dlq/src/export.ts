import { setImmediate as turn } from 'node:timers/promises';
import { joinInTurns, jsonParts, SIGNALS, type Signal } from '@nrdot/otlp';
import type { StoredRecord } from '@nrdot/segment-log';
import { Thread, threadScript } from '@nrdot/service/thread';

/**
 * A batch as one line of OTLP JSON, as the Collector's file exporter writes it and as receivers accept it with
 * `application/json`.
 * @returns the line in parts, or the reason why there is none
 */
export function exportParts({ envelope, payload }: StoredRecord): {
  parts?: Iterable<string>;
  problem?: string;
} {
  if (!Object.hasOwn(SIGNALS, envelope.signal)) return { problem: `unknown signal ${envelope.signal}` };
  try {
    const parts = jsonParts(envelope.signal as Signal, payload);
    return parts === undefined ? { problem: `${envelope.signal} have no JSON form here` } : { parts };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

/** Larger batches would block the event loop: checking 60 MiB takes half a second, and so does a single value of that size. */
const LARGE_BYTES = 128 * 1024;
const SLICE_BYTES = 1024 * 1024;

/** Begins a line, or asks for its next part. */
export type ThreadRequest = { record?: StoredRecord };
/** What the thread gives: a part of the line, or the reason why there is none; neither at the line's end. */
export type ThreadAnswer = { bytes?: Uint8Array<ArrayBuffer>; problem?: string };

/** Writes batches as `exportParts` does, while other work runs. The first large one starts a thread. */
export class JsonLines {
  readonly #thread = new Thread<ThreadRequest, ThreadAnswer>(threadScript('export-worker', import.meta.url), {
    keepsState: true,
  });

  /** @returns the reason why there is no line */
  async *parts(record: StoredRecord): AsyncGenerator<string | Uint8Array, string | undefined> {
    if (record.payload.byteLength > LARGE_BYTES) return yield* this.#inThread(record);
    const { parts = [], problem } = exportParts(record);
    for (const part of parts) {
      yield part;
      await turn();
    }
    return problem;
  }

  stop(): Promise<void> {
    return this.#thread.stop();
  }

  async *#inThread({ envelope, payload }: StoredRecord): AsyncGenerator<Uint8Array, string | undefined> {
    const copy = await joinInTurns([payload]);
    const first = await this.#thread.ask({ record: { envelope, payload: copy } }, [copy.buffer]);
    // The next part is made when it is asked for: clients may read slowly.
    for (let { bytes } = first; bytes; { bytes } = await this.#thread.ask({}, []))
      for (let at = 0; at < bytes.byteLength; at += SLICE_BYTES) {
        yield bytes.subarray(at, at + SLICE_BYTES);
        await turn();
      }
    return first.problem;
  }
}
