import type { IncomingMessage, ServerResponse } from 'node:http';
import { Pace } from '@nrdot/otlp';

/** How long a rejected client may go on sending. */
const LINGER_MS = 10_000;

/**
 * Sends the rest of an answer to a client that may still be sending, and reads on until it ends, for a bounded time and number
 * of bytes. Closing a connection with unread data resets it, and the reset discards the answer: the client would see a broken
 * pipe instead of the status and Retry-After.
 */
export function endWhenRead(
  request: IncomingMessage,
  response: ServerResponse,
  body: Uint8Array,
  maxBytes: number,
): void {
  response.flushHeaders();
  if (body.byteLength > 0) response.write(body);
  let bytes = 0;
  const end = () => {
    clearTimeout(timer);
    request.off('data', count);
    response.end();
  };
  const pace = new Pace(request.socket);
  const count = (chunk: Buffer) => {
    pace.took(chunk);
    bytes += chunk.byteLength;
    if (bytes > maxBytes) end();
  };
  const timer = setTimeout(end, LINGER_MS).unref();
  request.on('data', count).once('end', end).once('error', end).once('close', end);
  request.resume();
}
