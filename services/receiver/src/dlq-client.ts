import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { Readable } from 'node:stream';
import type { Batch } from '@nrdot/queue';

/** Time limit of a request. Together with the time that Redis may take before, less than the usual client timeout of 10 s. */
const LIMIT_MS = 3_000;
const ANSWER_MAX_BYTES = 64 * 1024;
const CONNECTIONS = 32;
/** TLS encrypts a whole write at once: 60 MiB would block the event loop for 120 ms. Between slices, other work runs. */
const PIECE_BYTES = 1024 * 1024;

export interface DlqClientOptions {
  /** The dlq's bearer token, if it requires one. */
  token?: string | undefined;
  /** Certificates to trust, PEM; the system's if absent. */
  caFile?: string | undefined;
  /** Client certificate, PEM, for a dlq that requires one. */
  certFile?: string | undefined;
  keyFile?: string | undefined;
}

/** Sends batches to the dlq over HTTP while Redis cannot take them. */
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

  /** Read anew each time; the agent opens another connection when they have changed. */
  #certificates(): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
    const { caFile, certFile, keyFile } = this.#options;
    return {
      ...(caFile ? { ca: readFileSync(caFile) } : {}),
      ...(certFile && keyFile ? { cert: readFileSync(certFile), key: readFileSync(keyFile) } : {}),
    };
  }

  /**
   * @returns when the batch is on the dlq's disk
   * @throws Error if the dlq is unreachable or does not accept it
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

  /** If one connection has gone silent, idle ones are probably dead too, and each would cost a client its time. */
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
    // The part that was read is enough for a message.
  }
  return Buffer.concat(chunks).toString('utf8').slice(0, 200);
}
