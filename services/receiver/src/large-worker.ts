import { parentPort } from 'node:worker_threads';
import { describingBytes, OtlpError, type Signal, splitRequest, walk } from '@nrdot/otlp';
import {
  DESCRIBING_MAX_BYTES,
  type LargeAnswer,
  type LargePiece,
  type LargeRequest,
  LIMITED_MAX_BYTES,
} from './large-request.ts';
import { soundProtobuf } from './sound.ts';

/** Cuts down to where a piece can be looked at in some ms, or is one item. */
const PIECE_MAX_BYTES = 128 * 1024;
/** What describes all of a piece may be the larger part of it: then its halves are hardly smaller, and there would be many. */
const MUCH_SMALLER = 0.75;
/** What the copies of that may add, in sizes of the request. */
const GROWTH_MAX = 3;

/** The thread that reads large requests, so that the event loop does not have to. */
parentPort!.on('message', ({ signal, format, decoded, options }: LargeRequest) => {
  let answer: LargeAnswer;
  try {
    const sound = soundProtobuf(signal, format, bufferOf(decoded), options);
    const pieces = sound.items > 0 ? cut(signal, sound.body) : [];
    const { items, rejected, message } = sound;
    answer = {
      items,
      rejected,
      message,
      pieces: pieces.map((piece) => ({
        bytes: plain(piece),
        items: walk(signal, piece, options).items,
        describingBytes: describingBytes(signal, piece),
      })),
    };
  } catch (error) {
    const { code, httpStatus, grpcCode, message } = error as OtlpError;
    answer =
      error instanceof OtlpError ? { refused: { code, httpStatus, grpcCode, message } } : { failed: message };
  }
  parentPort!.postMessage(
    answer,
    'pieces' in answer ? answer.pieces.map(({ bytes }: LargePiece) => bytes.buffer) : [],
  );
});

/** The request in pieces, in order. */
function cut(signal: Signal, body: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  const left = [body];
  let growth = body.byteLength * GROWTH_MAX;
  for (let part = left.pop(); part; part = left.pop()) {
    const halves = part.byteLength > PIECE_MAX_BYTES ? splitRequest(signal, part) : undefined;
    const added = halves ? halves[0].byteLength + halves[1].byteLength - part.byteLength : 0;
    const isTooLarge = part.byteLength > (signal === 'metrics' ? LIMITED_MAX_BYTES : DESCRIBING_MAX_BYTES);
    if (halves && added <= growth && (isTooLarge || halves[0].byteLength < part.byteLength * MUCH_SMALLER)) {
      growth -= added;
      left.push(halves[1], halves[0]);
    } else pieces.push(part);
  }
  return pieces;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Memory of its own, that can be handed over. */
function plain(piece: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(piece);
}
