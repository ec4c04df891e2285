import { parentPort } from 'node:worker_threads';
import {
  asBuffer,
  cutRequest,
  HEADS_MAX_BYTES,
  OtlpError,
  plural,
  SIGNALS,
  type Signal,
  walk,
} from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';
import { Classifier } from './classifier/classifier.ts';
import type { PriorityOptions } from './classifier/rules.ts';
import { type LargeAnswer, type LargePiece, type LargeRequest, LIMITED_MAX_BYTES } from './large-request.ts';
import { soundProtobuf } from './sound.ts';

/** Target size of a piece: processed within a few ms. A piece has at least one item. */
const PIECE_MAX_BYTES = 128 * 1024;
/** Size that all pieces together may have however large the request is, as a multiple of it. */
const MIN_GROWTH = 1.125;

/** The thread that reads large requests, to keep them off the event loop. */
parentPort!.on('message', ({ signal, format, decoded, options, rules }: LargeRequest) => {
  let answer: LargeAnswer;
  try {
    const sound = soundProtobuf(signal, format, asBuffer(decoded), { ...options, isSpent: true });
    const { items, rejected, message, fixed, body: whole } = sound;
    const maxBytes = Math.max(options.maxBodyBytes ?? 0, Math.floor(MIN_GROWTH * whole.byteLength));
    const cut = items > 0 ? cutRequest(signal, whole, sizeFor(!rules), maxBytes) : [];
    // What is classified here need not be in pieces.
    const pieces = cut ?? (rules ? [whole] : refuse(signal, items, maxBytes));
    const classifier = rules && classifierOf(rules);
    const parts = classifier
      ? pieces.flatMap((piece) => divided(signal, piece, classifier))
      : pieces.map((body) => ({ class: undefined, body }));
    answer = {
      items,
      rejected,
      message,
      fixed,
      pieces: parts.map(({ class: priorityClass, body }) => ({
        bytes: new Uint8Array(body), // a copy in memory of its own, which can be transferred
        items: walk(signal, body, options).items,
        class: priorityClass,
      })),
    };
  } catch (error) {
    const { code, httpStatus, grpcCode, message } = error as OtlpError;
    answer =
      error instanceof OtlpError ? { refused: [httpStatus, code, message, grpcCode] } : { failed: message };
  }
  parentPort!.postMessage(
    answer,
    'pieces' in answer ? answer.pieces.map(({ bytes }: LargePiece) => bytes.buffer) : [],
  );
});

function refuse(signal: Signal, items: number, maxBytes: number): never {
  const what = plural(items, SIGNALS[signal].item);
  throw new OtlpError(
    413,
    'too_large',
    `the request is read in pieces, which with copies of what describes ${what} would have more than ${maxBytes} bytes; send smaller batches or raise receiver.max_body`,
  );
}

let known: { rules: string; classifier: Classifier } | undefined;

/** Compiles rules when they change. */
function classifierOf(options: PriorityOptions): Classifier {
  const rules = JSON.stringify(options);
  if (known?.rules !== rules) known = { rules, classifier: new Classifier(options) };
  return known.classifier;
}

/** The parts of a piece by class. */
function divided(
  signal: Signal,
  piece: Buffer,
  classifier: Classifier,
): { class: PriorityClass; body: Buffer }[] {
  return classifier.classify(signal, piece).map(({ class: c, body = piece }) => ({ class: c, body }));
}

/**
 * Maximum size of a piece, by the size of what describes its items and is repeated in each piece. So that pieces are not mostly
 * descriptions, their items may take as many bytes, unless the limiter would not read the piece then.
 */
function sizeFor(isLimited: boolean): (describing: number) => number {
  return (describing) => {
    const mayFit = describing < LIMITED_MAX_BYTES + HEADS_MAX_BYTES;
    const most = isLimited && mayFit ? LIMITED_MAX_BYTES : 2 * describing;
    return Math.max(PIECE_MAX_BYTES, Math.min(2 * describing, most));
  };
}
