import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { Readable } from 'node:stream';
import type { Batch } from '@nrdot/queue';

/** For the whole of a request. With the time that Redis may take before, less than clients wait by default, which is 10 s. */
const LIMIT_MS = 3_000;
const ANSWER_MAX_BYTES = 64 * 1024;
const CONNECTIONS = 32;
/** TLS encrypts all of a write at once: 60 MiB would hold the event loop for 120 ms. Between pieces others have their turn. */
const PIECE_BYTES = 1024 * 1024;

export interface DlqClientOptions {
  /** What the dlq asks for. */
  token?: string | undefined;
  /** Certificates to trust, PEM; the system's when absent. */
  caFile?: string | undefined;
  /** What is shown to a dlq that asks for a certificate, PEM. */
  certFile?: string | undefined;
  keyFile?: string | undefined;
}

/** Hands batches to the dlq over HTTP, for when Redis can't take them. */
export class DlqClient {
  readonly #url: string;
  readonly #options: DlqClientOptions;
  readonly #agent: Agent;

  /** @param url base URL of the dlq's intake */
  constructor(url: string, options: DlqClientOptions = {}) {
    this.#url = url.replace(/\/+$/, '');
    this.#options = options;
    const how = { keepAlive: true, maxSockets: CONNECTIONS };
    this.#agent = this.#isTls ? new TlsAgent(how) : new Agent(how);
  }

  get #isTls(): boolean {
    return this.#url.startsWith('https:');
  }

  /** As they are now: a connection made with a renewed one is another to the agent. */
  #certificates(): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
    const { caFile, certFile, keyFile } = this.#options;
    return {
      ...(caFile ? { ca: readFileSync(caFile) } : {}),
      ...(certFile && keyFile ? { cert: readFileSync(certFile), key: readFileSync(keyFile) } : {}),
    };
  }

  /**
   * @returns when the batch is on the dlq's disk
   * @throws Error when the dlq can't be reached or does not take it
   */
  store(batch: Batch): Promise<void> {
    const { token } = this.#options;
    return new Promise((resolve, reject) => {
      const ask = this.#isTls ? tlsRequest : httpRequest;
      const request = ask(
        `${this.#url}/v1/batches/${batch.id}`,
        {
          method: 'POST',
          agent: this.#agent,
          ...(this.#isTls ? this.#certificates() : {}),
          headers: {
            ...(token ? { authorization: `Bearer ${token}` } : {}),
            'content-type': 'application/octet-stream',
            'content-length': batch.payload.byteLength,
            'x-nrdot-signal': batch.signal,
            'x-nrdot-class': batch.class,
            'x-nrdot-items': batch.items,
            'x-nrdot-encoding': batch.encoding,
            'x-nrdot-received-at': batch.receivedAt,
          },
        },
        (response) => {
          if (response.statusCode === 200) {
            response.resume();
            clearTimeout(timer);
            resolve();
            return;
          }
          void text(response).then((said) =>
            reject(new Error(`the dlq answered ${response.statusCode}: ${said}`)),
          );
        },
      );
      const timer = setTimeout(() => {
        request.destroy(new Error(`the dlq did not answer within ${LIMIT_MS / 1000} s`));
        this.#distrustIdle();
      }, LIMIT_MS);
      request.on('error', reject).on('close', () => clearTimeout(timer));
      if (batch.payload.byteLength <= PIECE_BYTES) request.end(batch.payload);
      else Readable.from(piecesOf(batch.payload)).pipe(request);
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Where one connection has gone silent, those that were idle beside it are no better, and each would cost a client its time. */
  #distrustIdle(): void {
    for (const sockets of Object.values(this.#agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }
}

function* piecesOf(payload: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < payload.byteLength; at += PIECE_BYTES) yield payload.subarray(at, at + PIECE_BYTES);
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      if (bytes > ANSWER_MAX_BYTES) break;
      chunks.push(chunk);
    }
  } catch {
    // What came is enough for a message.
  }
  return Buffer.concat(chunks).toString('utf8').slice(0, 200);
}
