import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { Readable } from 'node:stream';
import type { Config } from '@nrdot/config';
import { inSlices } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';

/** Time limit of a request. Together with the time that Redis may take before, less than the usual client timeout of 10 s. */
const LIMIT_MS = 3_000;
const ANSWER_MAX_BYTES = 64 * 1024;
const CONNECTIONS = 32;

/** The dlq's bearer token, if it requires one, and certificates. */
type DlqClientOptions = Pick<Config['dlq'], 'caFile' | 'certFile' | 'keyFile'> & {
  token?: string | undefined;
};

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

  /** Resolves when the batch is on the dlq's disk. @throws Error if it is unreachable or refuses it */
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
      const body = inSlices(batch.payload);
      if (body instanceof Readable) body.pipe(request);
      else request.end(body);
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
