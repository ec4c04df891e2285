import { readFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import type { Config } from '@nrdot/config';
import {
  Chunks,
  type ContentEncoding,
  decodeContent,
  inSlices,
  parseContentEncoding,
  readExportResponse,
  readStatus,
  SIGNALS,
  type Signal,
} from '@nrdot/otlp';
import { causeText } from '@nrdot/telemetry';
import { Agent, buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { type Hop, isOtlpAnswer, nextHop, type Outcome, outcomeOf } from './outcome.ts';
import { proxyName } from './proxy.ts';

type Configured = Config['exporter'];

export interface UpstreamOptions
  extends Pick<Configured, 'endpoint' | 'endpoints' | 'timeoutMs' | 'tls'>,
    Partial<Pick<Configured, 'retryOn'>> {
  /** Sent with every request; may contain secrets, so they are never logged. */
  headers: Record<string, string>;
  maxResponseBytes: number;
  connections: number;
  userAgent: string;
  /** The proxy's URL for a URL; undefined for a direct connection. */
  proxyFor?(url: URL): string | undefined;
}

const NOTHING = Buffer.alloc(0);
const MESSAGE_MAX_CHARS = 300;
/** Shorter header values are not masked in messages: they are no secrets, and parts of too many words. */
const SECRET_MIN_CHARS = 6;

interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** The body as far as it was read: empty if it exceeds the limit, or for a failure that was cut off. */
  body: Buffer;
  /** Bytes received, as a lower bound. */
  bodyBytes: number;
  /** The answer is the proxy's own; nothing was forwarded. */
  ofProxy?: true;
}

/** undici's error when a proxy refuses a tunnel or wants a password; a test checks its wording. */
const PROXY_ANSWERED = /^Proxy .*\((\d{3})\)/;

/** The OTLP/HTTP backend that receives everything. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #agents = new Map<string, Dispatcher>();
  /** Names in lower case, each once. */
  #headers: Record<string, string>;
  /** Texts to mask in the upstream's messages: header values and their words, longest first. */
  #secrets: readonly string[];
  readonly #urls = new Map<Signal, URL>();

  /** @throws TypeError if an endpoint is not a URL */
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
    const { connections, timeoutMs } = this.#options;
    const common = {
      connections,
      pipelining: 1,
      // HTTP/1.1 only: one request per connection, and no GOAWAY or refused streams to handle; see docs/upstream.md.
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
          // While a tunnel is being opened, its connection is blocked: bound that time.
          clientFactory: (origin, options) => new Pool(origin, { ...options, headersTimeout: timeoutMs }),
          proxyTls: { allowH2: false },
          // The origin is the proxy itself for requests in the clear, which it forwards.
          factory: (origin, options) =>
            new Pool(origin, origin === new URL(proxy).href ? options : inTunnel(options, this.#options)),
        })
      : new Agent({ ...common, connect: connector(this.#options) });
    this.#agents.set(proxy ?? '', agent);
    return agent;
  }

  /** Sets the headers, from the next request on. */
  setHeaders(headers: Record<string, string>): void {
    this.#headers = lowerCased(headers);
    this.#secrets = secretsIn(headers);
  }

  /** Sends one request. Never throws for failures of the network or the upstream: those are outcomes. */
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
    const { status: statusCode, bodyBytes } = answer;
    const text = header(answer, 'content-encoding') ? await this.#decoded(answer) : answer.body;
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
        // Answers are short, and a partial success has to be read.
        'accept-encoding': 'identity',
        // Any header may be a secret.
        ...(withSecrets ? this.#headers : {}),
        'content-type': 'application/x-protobuf',
        ...(encoding === 'identity' ? {} : { 'content-encoding': encoding }),
        'content-length': String(body.byteLength),
      },
      body: inSlices(body),
    };
  }

  /**
   * Sends one request and reads its answer, with one timeout for both. Uses undici's `dispatch` instead of `request`, which
   * avoids a stream and an abort signal: `AbortSignal.timeout` cannot be cancelled, and at thousands of requests per second the
   * heap fills up with those of the last seconds.
   * @throws the network's error; a timeout by its name
   */
  #exchange(agent: Dispatcher, request: Dispatcher.DispatchOptions): Promise<RawAnswer> {
    const { timeoutMs, maxResponseBytes } = this.#options;
    return new Promise((resolve, reject) => {
      let controller: Dispatcher.DispatchController | undefined;
      let expired: Error | undefined;
      let status = 0;
      let headers: IncomingHttpHeaders = {};
      const body = new Chunks();
      const answered = (read: Buffer, bodyBytes = body.byteLength) => {
        clearTimeout(timer);
        resolve({ status, headers, body: read, bodyBytes });
      };
      const timer = setTimeout(() => {
        expired = new Error(`no answer within ${timeoutMs} ms`);
        expired.name = 'TimeoutError';
        controller?.abort(expired);
        fail(expired);
      }, timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        const [, byProxy] = PROXY_ANSWERED.exec(error.message) ?? [];
        if (byProxy)
          resolve({ status: Number(byProxy), headers: {}, body: NOTHING, bodyBytes: 0, ofProxy: true });
        // The status line decides even if the body was cut off. A success without its body may have been partial, but a partial
        // success must not be retried either.
        else if (status !== 0) answered(NOTHING, 0);
        else reject(error);
      };
      agent.dispatch(request, {
        onRequestStart: (started) => {
          controller = started;
          if (expired) started.abort(expired); // it was waiting for a connection until now
        },
        onResponseStart: (_, statusCode, given) => {
          // Informational; the final answer follows. undici passes on all but 100 Continue, at which it closes the connection.
          if (statusCode < 200) return;
          status = statusCode;
          headers = given;
        },
        onResponseData: (started, chunk) => {
          body.add(chunk);
          if (body.byteLength <= maxResponseBytes) return;
          // The rest of the body is not worth the memory. The server has answered, so the specification forbids a retry.
          answered(NOTHING);
          started.abort(new Error(`response over ${maxResponseBytes} bytes`));
        },
        onResponseEnd: async () => {
          clearTimeout(timer);
          answered(await body.join());
        },
        onResponseError: (_, error) => fail(error),
      });
    });
  }

  /** Some proxies compress although they were asked not to. @returns an empty body if it cannot be read */
  async #decoded(answer: RawAnswer): Promise<Buffer> {
    try {
      const encoding = parseContentEncoding(header(answer, 'content-encoding'));
      return await decodeContent(answer.body, encoding, { maxBytes: this.#options.maxResponseBytes });
    } catch {
      return NOTHING;
    }
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
      message: this.#fit(`${proxy ? `through the proxy ${proxyName(proxy)}: ` : ''}${causeText(error)}`),
    };
  }

  /**
   * Prepares the upstream's message for logs, job data and the disk: one line, bounded, no control characters, no half of a
   * surrogate pair (Redis' scripts read no JSON that has one), and without the keys that were sent to it.
   */
  #fit(text: string): string {
    let said = text;
    for (const secret of this.#secrets) said = said.replaceAll(secret, '[redacted]');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    const line = said.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
    return line.slice(0, MESSAGE_MAX_CHARS).toWellFormed();
  }
}

/** @throws TypeError if there is no endpoint for the signal */
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

/** Header names are case-insensitive: keep the last of each. */
function lowerCased(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

/** Reads the certificates from their files for each new connection; existing connections stay. */
function connector({ timeoutMs, tls }: UpstreamOptions): buildConnector.connector {
  let read: string | undefined;
  let connect: buildConnector.connector;
  const readAgain = () => {
    const files = certificatesOf(tls);
    const content = String(Object.values(files));
    if (content === read) return;
    const rejectUnauthorized = !tls.insecureSkipVerify;
    connect = buildConnector({ allowH2: false, timeout: timeoutMs, ...files, rejectUnauthorized });
    read = content;
  };
  readAgain();
  return (options, callback) => {
    try {
      readAgain();
    } catch {
      // The files are being replaced: use the last good ones.
    }
    connect(options, callback);
  };
}

/**
 * For connections to the upstream through a proxy: undici opens only the tunnel. For TLS in it, it would read the certificates
 * only once.
 * @param pool what undici makes of an origin behind a proxy; its `connect` opens the tunnel and, for https, TLS in it
 */
function inTunnel(pool: Pool.Options, options: UpstreamOptions): Pool.Options {
  const openTunnel = pool.connect as buildConnector.connector;
  const secure = connector(options);
  const connect: buildConnector.connector = (target, callback) => {
    const { host, port } = target;
    const clear = { ...target, protocol: 'http:', host: port ? host : `${host}:443`, port: port || '443' };
    openTunnel(clear, (...[error, socket]) => {
      if (error) callback(error, null);
      else secure({ ...target, httpSocket: socket }, callback);
    });
  };
  return { ...pool, connect };
}

function certificatesOf({ caFile, certFile, keyFile }: UpstreamOptions['tls']) {
  return {
    ...(caFile ? { ca: readFileSync(caFile) } : {}),
    ...(certFile ? { cert: readFileSync(certFile) } : {}),
    ...(keyFile ? { key: readFileSync(keyFile) } : {}),
  };
}

/** A URL for messages: user and query may be secrets. */
function shownUrl(url: URL | null): string {
  if (!url) return 'an invalid address';
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
