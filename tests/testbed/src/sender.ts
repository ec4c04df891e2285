/** One attempt to send one request, and what its outcome means to a client that keeps to OTLP/HTTP 1.x. */

import { causeText } from '@nrdot/telemetry';
import { Pool } from 'undici';
import { type PartialSuccess, readPartialSuccess } from './answer.ts';

export type Outcome =
  | { kind: 'success'; status: number; partial?: PartialSuccess }
  | { kind: 'refused'; status: number; message: string }
  | { kind: 'retryable'; status: number; message: string; retryAfterMs?: number }
  /** No answer: the request may or may not have been taken. */
  | { kind: 'lost'; error: string; message: string };

/** A client reads no more of an answer than this. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** Longer waits asked for with Retry-After are cut. */
const MAX_RETRY_AFTER_MS = 60_000;
const RETRYABLE = new Set([429, 502, 503, 504]);

export interface SenderOptions {
  origin: string;
  connections: number;
  requestTimeoutMs: number;
}

export class Sender {
  #pool: Pool;

  constructor(options: SenderOptions) {
    this.#pool = new Pool(options.origin, {
      connections: options.connections,
      pipelining: 1,
      headersTimeout: options.requestTimeoutMs,
      bodyTimeout: options.requestTimeoutMs,
      connect: { timeout: options.requestTimeoutMs },
      maxHeaderSize: 16 * 1024,
    });
  }

  async send(
    path: string,
    headers: Record<string, string>,
    body: Buffer,
    signal?: AbortSignal,
  ): Promise<Outcome> {
    try {
      const answer = await this.#pool.request({
        path,
        method: 'POST',
        headers,
        body,
        ...(signal === undefined ? {} : { signal }),
      });
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of answer.body) {
        size += (chunk as Buffer).length;
        if (size <= MAX_ANSWER_BYTES) chunks.push(chunk as Buffer);
      }
      const bytes = Buffer.concat(chunks);
      const { statusCode: status } = answer;
      if (status >= 200 && status < 300) {
        const partial = readPartialSuccess(bytes, String(answer.headers['content-type'] ?? ''));
        return partial === undefined ? { kind: 'success', status } : { kind: 'success', status, partial };
      }
      const message = readable(bytes);
      if (!RETRYABLE.has(status)) return { kind: 'refused', status, message };
      const retryAfterMs = readRetryAfter(answer.headers['retry-after'], Date.now());
      return { kind: 'retryable', status, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    } catch (error) {
      const { code, message } = error as { code?: string; message?: string };
      return { kind: 'lost', error: code ?? message ?? String(error), message: causeText(error) };
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** Milliseconds to wait by a Retry-After of seconds or of an HTTP-date; undefined for none or nonsense. */
function readRetryAfter(header: string | string[] | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  const value = (Array.isArray(header) ? header[0] : header)?.trim() ?? '';
  const ms = /^\d+(\.\d+)?$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  if (Number.isNaN(ms)) return undefined;
  return Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
}

/** The printable part of an error body, which may be a protobuf Status, at most 200 characters. */
function readable(bytes: Buffer): string {
  return bytes
    .subarray(0, 400)
    .toString('utf8')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 200);
}
