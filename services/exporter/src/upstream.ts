import { readFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { type ContentEncoding, readExportResponse, readStatus, SIGNALS, type Signal } from '@nrdot/otlp';
import { causeText } from '@nrdot/telemetry';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { type Outcome, outcomeOf } from './outcome.ts';

export interface UpstreamOptions {
  /** Base URL; the signal's path is appended. */
  endpoint: string;
  /** Full URLs for single signals. */
  endpoints: Partial<Record<Signal, string>>;
  /** Sent with every request; may hold secrets, so they are never logged. */
  headers: Record<string, string>;
  timeoutMs: number;
  maxResponseBytes: number;
  connections: number;
  userAgent: string;
  tls: {
    caFile?: string | undefined;
    certFile?: string | undefined;
    keyFile?: string | undefined;
    insecureSkipVerify: boolean;
  };
}

const MESSAGE_MAX_CHARS = 300;
/** A header's value shorter than this is no secret, and part of too many words. */
const SECRET_MIN_CHARS = 6;

interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** The OTLP/HTTP backend that everything is sent to. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #agent: Agent;
  #headers: Record<string, string>;
  /** What must not come back in what the upstream says: values of headers and their words, longest first. */
  #secrets: readonly string[];
  readonly #urls = new Map<Signal, { origin: string; path: string }>();

  /** @throws TypeError when an endpoint is no URL */
  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#headers = options.headers;
    this.#secrets = secretsIn(options.headers);
    this.#agent = new Agent({
      connections: options.connections,
      pipelining: 1,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
      connect: connector(options),
      keepAliveTimeout: 30_000,
    });
    for (const signal of Object.keys(SIGNALS) as Signal[]) {
      const url = new URL(
        options.endpoints[signal] ?? options.endpoint.replace(/\/+$/, '') + SIGNALS[signal].path,
      );
      this.#urls.set(signal, { origin: url.origin, path: url.pathname + url.search });
    }
  }

  /** Sent with every request from the next one on. */
  setHeaders(headers: Record<string, string>): void {
    this.#headers = headers;
    this.#secrets = secretsIn(headers);
  }

  /** Sends one request. Never throws for what the network or the upstream does: that is an outcome. */
  async send(signal: Signal, body: Buffer, encoding: ContentEncoding): Promise<Outcome> {
    const { origin, path } = this.#urls.get(signal)!;
    let answer: RawAnswer;
    try {
      answer = await this.#exchange({
        origin,
        path,
        method: 'POST',
        headers: {
          'content-type': 'application/x-protobuf',
          ...(encoding === 'identity' ? {} : { 'content-encoding': encoding }),
          'user-agent': this.#options.userAgent,
          ...this.#headers,
        },
        body,
      });
    } catch (error) {
      return this.#networkOutcome(error);
    }
    const { status: statusCode, body: text } = answer;
    const contentType = header(answer, 'content-type') ?? '';
    const success = statusCode < 300;
    const partial = success ? readExportResponse(signal, text, contentType) : undefined;
    const status = success ? undefined : readStatus(text, contentType);
    return outcomeOf(
      {
        status: statusCode,
        retryAfter: header(answer, 'retry-after'),
        refusedItems: Number(partial?.rejected ?? 0),
        message: this.#fit(partial?.message ?? status?.message ?? ''),
      },
      Date.now(),
    );
  }

  /**
   * One request and its answer, within the time for both together. Undici's `dispatch` rather than `request`: no stream, no
   * abort signal. `AbortSignal.timeout` can't be taken back: at thousands of requests a second those of the last seconds
   * are what the heap is full of.
   * @throws what the network did, a timeout by its name
   */
  #exchange(request: Dispatcher.DispatchOptions): Promise<RawAnswer> {
    const { timeoutMs, maxResponseBytes } = this.#options;
    return new Promise((resolve, reject) => {
      let controller: Dispatcher.DispatchController | undefined;
      let expired: Error | undefined;
      let status = 0;
      let headers: IncomingHttpHeaders = {};
      let bytes = 0;
      const chunks: Buffer[] = [];
      const timer = setTimeout(() => {
        expired = new Error(`no answer within ${timeoutMs} ms`);
        expired.name = 'TimeoutError';
        controller?.abort(expired);
        fail(expired);
      }, timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        // The status line of a failure decides even when its body is cut off; a cut success may not have been one.
        if (status >= 300) resolve({ status, headers, body: Buffer.alloc(0) });
        else reject(error);
      };
      this.#agent.dispatch(request, {
        onRequestStart: (started) => {
          controller = started;
          if (expired) started.abort(expired); // it waited for a connection until now
        },
        onResponseStart: (_, statusCode, given) => {
          if (statusCode < 200) return; // informational: the answer is still to come
          status = statusCode;
          headers = given;
        },
        onResponseData: (started, chunk) => {
          bytes += chunk.byteLength;
          if (bytes > maxResponseBytes) started.abort(new Error(`response over ${maxResponseBytes} bytes`));
          else chunks.push(chunk);
        },
        onResponseEnd: () => {
          clearTimeout(timer);
          resolve({ status, headers, body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks) });
        },
        onResponseError: (_, error) => fail(error),
      });
    });
  }

  async close(): Promise<void> {
    await this.#agent.close();
  }

  #networkOutcome(error: unknown): Outcome {
    const { name, code } = error as Error & { code?: string };
    const timedOut = name === 'TimeoutError' || (code ?? '').includes('TIMEOUT');
    return {
      kind: 'retry',
      reason: timedOut ? 'timeout' : 'connection',
      message: this.#fit(causeText(error)),
    };
  }

  /**
   * What an upstream says goes into logs, job data and onto disk: one line, bounded, no control characters, and none of the
   * keys that it was sent and quotes.
   */
  #fit(text: string): string {
    let said = text;
    for (const secret of this.#secrets) said = said.replaceAll(secret, '[redacted]');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    return said.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').slice(0, MESSAGE_MAX_CHARS);
  }
}

/** Makes connections with the certificates that are in the files then; those there are go on. */
function connector({ timeoutMs, tls }: UpstreamOptions): buildConnector.connector {
  const make = (files: Certificates) =>
    buildConnector({ timeout: timeoutMs, ...files, rejectUnauthorized: !tls.insecureSkipVerify });
  let read = certificatesOf(tls);
  let connect = make(read);
  return (options, callback) => {
    try {
      const there = certificatesOf(tls);
      if (Object.entries(there).some(([name, file]) => !file.equals(read[name as keyof Certificates]!))) {
        read = there;
        connect = make(there);
      }
    } catch {
      // They are being replaced: the last ones are good until then.
    }
    connect(options, callback);
  };
}

type Certificates = { ca?: Buffer; cert?: Buffer; key?: Buffer };

function certificatesOf({ caFile, certFile, keyFile }: UpstreamOptions['tls']): Certificates {
  return {
    ...(caFile ? { ca: readFileSync(caFile) } : {}),
    ...(certFile ? { cert: readFileSync(certFile) } : {}),
    ...(keyFile ? { key: readFileSync(keyFile) } : {}),
  };
}

function header({ headers }: RawAnswer, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function secretsIn(headers: Record<string, string>): string[] {
  const values = Object.values(headers).flatMap((value) => [value.trim(), ...value.split(/\s+/)]);
  return [...new Set(values)]
    .filter((value) => value.length >= SECRET_MIN_CHARS)
    .sort((a, b) => b.length - a.length);
}
