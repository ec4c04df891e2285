import { readFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { type ContentEncoding, readExportResponse, readStatus, SIGNALS, type Signal } from '@nrdot/otlp';
import { causeText } from '@nrdot/telemetry';
import { Agent, buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { type Hop, isOtlpAnswer, nextHop, type Outcome, outcomeOf } from './outcome.ts';
import { proxyName } from './proxy.ts';

export interface UpstreamOptions {
  /** Base URL; the signal's path is appended. Not needed where each signal has its own. */
  endpoint?: string | undefined;
  /** Full URLs for single signals. */
  endpoints: Partial<Record<Signal, string>>;
  /** Sent with every request; may hold secrets, so they are never logged. */
  headers: Record<string, string>;
  timeoutMs: number;
  maxResponseBytes: number;
  /** Statuses that are tried again, whatever else they mean. */
  retryOn?: readonly number[];
  connections: number;
  userAgent: string;
  /** URL of the proxy by which a URL is reached; undefined: directly. */
  proxyFor?(url: URL): string | undefined;
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
  /** What was read of the body: nothing of one over the limit, or of a failure that was cut off. */
  body: Buffer;
  /** At least so many bytes came. */
  bodyBytes: number;
  /** The proxy says so: nothing went past it. */
  ofProxy?: true;
}

/** How undici tells that a proxy made no tunnel, or wants a password (a test holds it to that). */
const PROXY_ANSWERED = /^Proxy .*\((\d{3})\)/;

/** The OTLP/HTTP backend that everything is sent to. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #agents = new Map<string, Dispatcher>();
  /** In lower case, one of each. */
  #headers: Record<string, string>;
  /** What must not come back in what the upstream says: values of headers and their words, longest first. */
  #secrets: readonly string[];
  readonly #urls = new Map<Signal, URL>();

  /** @throws TypeError when an endpoint is no URL */
  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#headers = lowerCased(options.headers);
    this.#secrets = secretsIn(options.headers);
    for (const signal of Object.keys(SIGNALS) as Signal[]) {
      this.#urls.set(signal, new URL(urlOf(signal, options)));
    }
  }

  #agentFor(proxy: string | undefined): Dispatcher {
    const known = this.#agents.get(proxy ?? '');
    if (known) return known;
    const { connections, timeoutMs, tls } = this.#options;
    const common = {
      connections,
      pipelining: 1,
      // One request at a time on a connection, and no GOAWAY or refused stream to make sense of: see docs/upstream.md.
      allowH2: false,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      keepAliveTimeout: 30_000,
    };
    const agent = proxy
      ? new ProxyAgent({
          ...common,
          uri: proxy,
          connectTimeout: timeoutMs,
          // A tunnel that is not made keeps its connection from the next request for as long as it is waited for.
          clientFactory: (origin, options) => new Pool(origin, { ...options, headersTimeout: timeoutMs }),
          proxyTls: { allowH2: false },
          requestTls: {
            allowH2: false,
            rejectUnauthorized: !tls.insecureSkipVerify,
            ...certificatesOf(tls),
          },
        })
      : new Agent({ ...common, connect: connector(this.#options) });
    this.#agents.set(proxy ?? '', agent);
    return agent;
  }

  /** Sent with every request from the next one on. */
  setHeaders(headers: Record<string, string>): void {
    this.#headers = lowerCased(headers);
    this.#secrets = secretsIn(headers);
  }

  /** Sends one request. Never throws for what the network or the upstream does: that is an outcome. */
  async send(signal: Signal, body: Buffer, encoding: ContentEncoding): Promise<Outcome> {
    let hop: Hop = { url: this.#urls.get(signal)!, withSecrets: true };
    let answer: RawAnswer;
    let proxy: string | undefined;
    try {
      for (let hops = 0; ; hops++) {
        proxy = this.#options.proxyFor?.(hop.url);
        answer = await this.#exchange(this.#agentFor(proxy), this.#requestTo(hop, body, encoding));
        const next = nextHop(answer.status, header(answer, 'location'), hop, hops);
        if (!next) break;
        hop = next;
      }
    } catch (error) {
      return this.#networkOutcome(error, proxy);
    }
    const { status: statusCode, body: text, bodyBytes } = answer;
    const contentType = header(answer, 'content-type') ?? '';
    const success = statusCode >= 200 && statusCode < 300;
    const partial = success ? readExportResponse(signal, text, contentType) : undefined;
    const status = success ? undefined : readStatus(text, contentType);
    const location = header(answer, 'location');
    const outcome = outcomeOf(
      {
        status: statusCode,
        otlp: isOtlpAnswer(contentType, text, bodyBytes),
        contentType,
        retryAfter: header(answer, 'retry-after'),
        refusedItems: Number(partial?.rejected ?? 0),
        message: partial?.message ?? status?.message ?? '',
        location: location === undefined ? undefined : shownUrl(URL.parse(location, hop.url.href)),
        url: shownUrl(hop.url),
        ...(answer.ofProxy && proxy ? { proxy: proxyName(proxy) } : {}),
      },
      Date.now(),
      this.#options.retryOn,
    );
    return { ...outcome, message: this.#fit(outcome.message) };
  }

  #requestTo({ url, withSecrets }: Hop, body: Buffer, encoding: ContentEncoding): Dispatcher.DispatchOptions {
    return {
      origin: url.origin,
      path: url.pathname + url.search,
      method: 'POST',
      headers: {
        'user-agent': this.#options.userAgent,
        // Answers are short, and what says that items were refused has to be read.
        'accept-encoding': 'identity',
        // Any of them may be a secret.
        ...(withSecrets ? this.#headers : {}),
        'content-type': 'application/x-protobuf',
        ...(encoding === 'identity' ? {} : { 'content-encoding': encoding }),
      },
      body,
    };
  }

  /**
   * One request and its answer, within the time for both together. Undici's `dispatch` rather than `request`: no stream, no
   * abort signal. `AbortSignal.timeout` can't be taken back: at thousands of requests a second those of the last seconds
   * are what the heap is full of.
   * @throws what the network did, a timeout by its name
   */
  #exchange(agent: Dispatcher, request: Dispatcher.DispatchOptions): Promise<RawAnswer> {
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
        const [, answered] = PROXY_ANSWERED.exec(error.message) ?? [];
        if (answered)
          return resolve({
            ...{ status: Number(answered), headers: {}, body: Buffer.alloc(0), bodyBytes: 0 },
            ofProxy: true,
          });
        // The status line of a failure decides even when its body is cut off; a cut success may not have been one.
        if (status >= 300) resolve({ status, headers, body: Buffer.alloc(0), bodyBytes: 0 });
        else reject(error);
      };
      agent.dispatch(request, {
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
          if (bytes <= maxResponseBytes) return void chunks.push(chunk);
          // What it says beyond its status is not worth the memory. It has answered: the specification forbids trying again.
          clearTimeout(timer);
          resolve({ status, headers, body: Buffer.alloc(0), bodyBytes: bytes });
          started.abort(new Error(`response over ${maxResponseBytes} bytes`));
        },
        onResponseEnd: () => {
          clearTimeout(timer);
          const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
          resolve({ status, headers, body, bodyBytes: bytes });
        },
        onResponseError: (_, error) => fail(error),
      });
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.close()));
  }

  #networkOutcome(error: unknown, proxy: string | undefined): Outcome {
    const { name, code } = error as Error & { code?: string };
    const timedOut = name === 'TimeoutError' || (code ?? '').includes('TIMEOUT');
    return {
      kind: 'retry',
      reason: timedOut ? 'timeout' : 'connection',
      message: this.#fit(`${proxy ? `by the proxy ${proxyName(proxy)}: ` : ''}${causeText(error)}`),
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

/**
 * Where a signal goes.
 * @throws TypeError when there is no endpoint for it
 */
export function urlOf(
  signal: Signal,
  { endpoint, endpoints }: Pick<UpstreamOptions, 'endpoint' | 'endpoints'>,
): string {
  const own = endpoints[signal];
  if (own !== undefined) return own;
  if (endpoint === undefined)
    throw new TypeError(`exporter.endpoints.${signal} is not set, nor is exporter.endpoint`);
  return endpoint.replace(/\/+$/, '') + SIGNALS[signal].path;
}

/** A header's name has no case: one of each, the last. */
function lowerCased(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

/** Makes connections with the certificates that are in the files then; those there are go on. */
function connector({ timeoutMs, tls }: UpstreamOptions): buildConnector.connector {
  const make = (files: Certificates) =>
    buildConnector({
      allowH2: false,
      timeout: timeoutMs,
      ...files,
      rejectUnauthorized: !tls.insecureSkipVerify,
    });
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

/** An address as it may be shown: user and query may be secrets. */
function shownUrl(url: URL | null): string {
  if (!url) return 'an address that cannot be read';
  return url.origin === 'null' ? `${url.protocol}…` : url.origin + url.pathname;
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
