import { setImmediate as turn } from 'node:timers/promises';
import { type BodyFormat, joinInTurns, OtlpError, type Signal } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';
import { Thread, threadScript } from '@nrdot/service/thread';
import type { FixCounts } from './check/request-fix.ts';
import type { Classified } from './classifier/classifier.ts';
import type { PriorityOptions } from './classifier/rules.ts';
import type { SoundOptions } from './sound.ts';

export interface LargeRequest {
  signal: Signal;
  format: BodyFormat;
  decoded: Uint8Array;
  options: SoundOptions;
  /** The thread divides the pieces by class. Undefined if the limiter comes first, which reads each piece in one go. */
  rules?: PriorityOptions | undefined;
}

/** A valid request in pieces, each a request by itself. */
export interface LargeSound {
  items: number;
  rejected: number;
  message: string;
  fixed?: FixCounts | undefined;
  pieces: LargePiece[];
}

export interface LargePiece {
  bytes: Uint8Array<ArrayBuffer>;
  items: number;
  /** If the request has rules. */
  class: PriorityClass | undefined;
}

export type LargeAnswer =
  | LargeSound
  | { refused: ConstructorParameters<typeof OtlpError> }
  | { failed: string };

/**
 * A request that is larger than this, decompressed, would block the event loop for too long: another thread reads it and cuts
 * it into pieces. The limits are lower for metrics, which the limiter reads in detail, for JSON, which costs more to parse, and with
 * `check.fix`, for which every attribute is read.
 */
const LARGE_BYTES = 1024 * 1024;
const LARGE_JSON_BYTES = 512 * 1024;
const LARGE_METRICS_BYTES = 256 * 1024;
const LARGE_FIXED_BYTES = 256 * 1024;
/** Rewriting a request without its invalid items costs several times as much as reading it. */
export const MENDED_MAX_BYTES = 128 * 1024;
/** The limiter reads at most this in one go, be it a request or a piece that cannot be cut further. */
export const LIMITED_MAX_BYTES = LARGE_METRICS_BYTES;
/** A classifier whose rules test items examines at most so many in one go: each is matched with each pattern. */
export const EXAMINED_MAX_ITEMS = 8_192;

export function isLarge(signal: Signal, format: BodyFormat, bytes: number, isFixed: boolean): boolean {
  if (signal === 'profiles') return false;
  if (signal === 'metrics') return bytes > LARGE_METRICS_BYTES;
  if (isFixed) return bytes > LARGE_FIXED_BYTES;
  return bytes > (format === 'json' ? LARGE_JSON_BYTES : LARGE_BYTES);
}

/** A thread that has read a larger request is replaced. */
const HEAVY_BYTES = 8 * 1024 * 1024;
/** Time limit per request. With default rules, the worst request of 64 MiB takes a third of it on an idle machine. */
const DEADLINE_MS = 30_000;

export interface LargeOptions {
  /** Time limit of the thread per request. */
  deadlineMs?: number;
  /** The thread's script. */
  script?: URL;
}

/** Reads large requests in a thread, one after the other. */
export class LargeRequests {
  readonly #thread: Thread<LargeRequest, LargeAnswer>;

  constructor({
    deadlineMs = DEADLINE_MS,
    script = threadScript('large-worker', import.meta.url),
  }: LargeOptions = {}) {
    const tooSlow = () =>
      new OtlpError(
        503,
        'too_slow',
        `the request could not be read within ${deadlineMs / 1000} s, and nothing of it was stored; try again later, in smaller batches`,
      );
    const isHeavy = ({ decoded }: LargeRequest) => decoded.byteLength > HEAVY_BYTES;
    this.#thread = new Thread(script, { deadlineMs, tooSlow, isHeavy });
  }

  /** @throws OtlpError as if it were read on the event loop, and 503 after a timeout */
  async read(request: LargeRequest): Promise<LargeSound> {
    // Transfer a copy: the bytes may be the payload or a scratch buffer, and cloning them into a message would be one long
    // copy.
    const decoded = await joinInTurns([request.decoded]);
    const answer = await this.#thread.ask({ ...request, decoded }, [decoded.buffer]);
    if ('refused' in answer) throw new OtlpError(...answer.refused);
    if ('failed' in answer) throw new Error(answer.failed);
    return answer;
  }

  async stop(): Promise<void> {
    await this.#thread.stop();
  }
}

/**
 * Classifies one piece after the other and joins those of each class.
 * @param asItCame if everything is of one class, it stays as received and is not joined
 */
export async function classifyPieces(
  pieces: readonly Buffer[],
  classify: (body: Buffer) => Classified[],
  itemsOf: (body: Buffer) => number,
  asItCame: boolean,
): Promise<(Classified & { items: number })[]> {
  const found = new Map<PriorityClass, { bodies: Buffer[]; items: number }>();
  for (const piece of pieces) {
    for (const { class: priorityClass, body = piece } of classify(piece)) {
      const of = found.get(priorityClass) ?? { bodies: [], items: 0 };
      found.set(priorityClass, of);
      of.bodies.push(body);
      of.items += itemsOf(body);
    }
    await turn();
  }
  const parts: (Classified & { items: number })[] = [];
  for (const [priorityClass, { bodies, items }] of found) {
    const body = asItCame && found.size === 1 ? undefined : await joinInTurns(bodies);
    parts.push({ class: priorityClass, body, items });
  }
  return parts;
}
