import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { Chunks, GRPC, OtlpError } from '@nrdot/otlp';

/**
 * Limits the bytes of all requests in memory. A request above the limit gets 503 with Retry-After, so that the client keeps its
 * data and retries.
 */
export class InflightBytes {
  readonly #maxBytes: number;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Starts a reservation for one request, which must be released. */
  open(): Reservation {
    let heldBytes = 0;
    const account: Reservation = {
      reserve: (bytes) => {
        if (heldBytes + bytes > this.#maxBytes) {
          throw new OtlpError(
            413,
            'too_large',
            `the request takes ${heldBytes + bytes} bytes of memory, but all requests together may take ${this.#maxBytes} (receiver.max_inflight); send smaller batches`,
          );
        }
        if (this.#usedBytes + bytes > this.#maxBytes) {
          throw new OtlpError(
            503,
            'inflight_bytes',
            `receiver.max_inflight: ${this.#usedBytes} of ${this.#maxBytes} bytes are in use; try again later`,
          );
        }
        this.#usedBytes += bytes;
        heldBytes += bytes;
      },
      look: (bytes) => {
        account.reserve(bytes);
        this.#usedBytes -= bytes;
        heldBytes -= bytes;
      },
      release: () => {
        this.#usedBytes -= heldBytes;
        heldBytes = 0;
      },
    };
    return account;
  }
}

export interface Reservation {
  /** @throws OtlpError 503 if there is no room now, 413 if there never is */
  reserve(bytes: number): void;
  /** Throws like `reserve`, but reserves nothing. */
  look(bytes: number): void;
  release(): void;
}

/**
 * Reads a request's body as sent.
 * @param declaredBytes Content-Length, if any: a request that cannot fit now is rejected at once. Nothing is reserved for it,
 *   or two clients that send only headers could keep all others out
 * @throws OtlpError 413 above `maxBytes`, 503 when memory is short, 400 if the client disconnected
 */
export function readBody(
  stream: IncomingMessage | Readable,
  declaredBytes: number | undefined,
  maxBytes: number,
  reservation: Reservation,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks = new Chunks((stream as IncomingMessage).socket);
    const tooLarge = () =>
      new OtlpError(
        413,
        'too_large',
        `the body is larger than ${maxBytes} bytes; send smaller batches or raise receiver.max_body`,
      );
    const fail = (error: unknown) => {
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.resume(); // the answer is sent, and the rest of the body discarded
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      chunks.add(chunk);
      if (chunks.byteLength > maxBytes) return fail(tooLarge());
      try {
        reservation.reserve(chunk.byteLength);
      } catch (error) {
        fail(error);
      }
    };
    const onEnd = () => {
      // Remove the listener: every request's stream closes in the end, and creating an error with a stack trace is expensive.
      stream.off('close', onGone);
      resolve(chunks.join());
    };
    const onGone = () => {
      const message = `the client closed the connection after ${chunks.byteLength} bytes of its body`;
      reject(new OtlpError(400, 'client_gone', message, GRPC.CANCELLED));
    };
    if (declaredBytes !== undefined) {
      if (declaredBytes > maxBytes) return fail(tooLarge());
      try {
        reservation.look(declaredBytes);
      } catch (error) {
        return fail(error);
      }
    }
    stream.on('data', onData);
    stream.once('end', onEnd);
    stream.once('error', onGone);
    stream.once('close', onGone);
  });
}
