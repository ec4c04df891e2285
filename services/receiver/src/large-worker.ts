import { parentPort } from 'node:worker_threads';
import { OtlpError, splitRequest, walk } from '@nrdot/otlp';
import type { LargeAnswer, LargePiece, LargeRequest } from './large-request.ts';
import { soundProtobuf } from './sound.ts';

/** Cuts down to where a piece can be looked at in some ms, or is one item. */
const PIECE_MAX_BYTES = 128 * 1024;

/** The thread that reads large requests, so that the event loop does not have to. */
parentPort!.on('message', ({ id, signal, format, decoded, options }: LargeRequest) => {
  let answer: LargeAnswer;
  try {
    const sound = soundProtobuf(signal, format, bufferOf(decoded), options);
    const pieces: Buffer[] = [];
    const cut = (part: Buffer): void => {
      const halves = part.byteLength > PIECE_MAX_BYTES ? splitRequest(signal, part) : undefined;
      // What describes all of it may be the larger part: then halves are hardly smaller.
      if (halves && halves[0].byteLength < part.byteLength * MUCH_SMALLER)
        for (const half of halves) cut(half);
      else pieces.push(part);
    };
    if (sound.items > 0) cut(sound.body);
    const { items, rejected, message } = sound;
    answer = {
      id,
      items,
      rejected,
      message,
      pieces: pieces.map((piece) => ({ bytes: plain(piece), items: walk(signal, piece, options).items })),
    };
  } catch (error) {
    const { code, httpStatus, grpcCode, message } = error as OtlpError;
    answer =
      error instanceof OtlpError
        ? { id, refused: { code, httpStatus, grpcCode, message } }
        : { id, failed: message };
  }
  parentPort!.postMessage(
    answer,
    'pieces' in answer ? answer.pieces.map(({ bytes }: LargePiece) => bytes.buffer) : [],
  );
});

const MUCH_SMALLER = 0.9;

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Memory of its own, that can be handed over. */
function plain(piece: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(piece);
}
