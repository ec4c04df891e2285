import { loadConfig } from '@nrdot/config';
import { formatAddress } from '@nrdot/service';
import { causeText } from '@nrdot/telemetry';
import { configSource } from './config-flags.ts';
import { printable } from './output.ts';

/** How a command addresses a process, and prints its answer. */
export interface AdminFlags {
  config?: string;
  /** `host:port` or a URL; defaults to admin.listen of the configuration. */
  admin?: string;
  json?: boolean;
}

const TIMEOUT_MS = 30_000;
const TOKEN_VARIABLE = 'NRDOT_ADMIN_TOKEN';

/** Nothing listens at the admin address. */
export class NothingAnswers extends Error {}

/** Client of a running service's admin address. Every error says what to do next. */
export class AdminClient {
  readonly url: string;
  readonly #token: string | undefined;

  /** @throws ConfigError if the configuration, which has address and token, is invalid */
  constructor(flags: AdminFlags) {
    const { config } = loadConfig(configSource(flags.config ? { config: flags.config } : {}));
    this.#token = process.env[TOKEN_VARIABLE] || config.admin.token?.reveal();
    const { host, port } = config.admin.listen;
    this.url = baseUrl(flags.admin ?? formatAddress({ host: reachable(host), port }));
  }

  /**
   * @param timeoutMs longer for requests that may have to read a whole disk
   * @throws Error if it refuses, or NothingAnswers
   */
  async get<T>(path: string, timeoutMs?: number): Promise<T> {
    return this.#json<T>('GET', path, undefined, timeoutMs);
  }

  /** @throws Error if it refuses, or NothingAnswers */
  async post<T>(path: string, body?: object, timeoutMs?: number): Promise<T> {
    return this.#json<T>('POST', path, body, timeoutMs);
  }

  /** The lines of an answer as they arrive, until it ends or `signal` aborts. */
  async *lines(path: string, signal: AbortSignal, method: 'GET' | 'POST' = 'GET'): AsyncGenerator<string> {
    const response = await this.#request(method, path, signal);
    // A line may come in thousands of chunks, so each is looked at once.
    const line: string[] = [];
    try {
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        const [first, ...others] = chunk.split('\n') as [string, ...string[]];
        line.push(first);
        for (const next of others) {
          yield line.join('');
          line.splice(0, line.length, next);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      throw new Error(`${this.url} ended the connection before its answer was complete`, { cause: error });
    }
    const rest = line.join('');
    if (rest !== '') yield rest;
  }

  async #json<T>(method: string, path: string, body?: object, timeoutMs = TIMEOUT_MS): Promise<T> {
    return (await (await this.#request(method, path, AbortSignal.timeout(timeoutMs), body)).json()) as T;
  }

  async #request(method: string, path: string, signal: AbortSignal, body?: object): Promise<Response> {
    const headers = {
      ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}),
      ...(body ? { 'content-type': 'application/json' } : {}),
    };
    let response: Response;
    try {
      response = await fetch(this.url + path, {
        method,
        signal,
        headers,
        body: JSON.stringify(body) ?? null,
      });
    } catch (error) {
      const { name } = error as Error;
      if (name === 'AbortError') throw error;
      if (name === 'TimeoutError') throw new Error(`${this.url}${path} did not answer in time; try again`);
      throw new NothingAnswers(
        `nothing answers at ${this.url} (${causeText(error)}). Is it running? "nrdot up" starts everything; --admin HOST:PORT names another address.`,
      );
    }
    if (response.ok) return response;
    const said = (await response.json().catch(() => ({}))) as { error?: { message?: string } };
    throw new Error(this.#explain(response.status, path, said.error?.message));
  }

  #explain(status: number, path: string, said = ''): string {
    if (status === 401)
      return `${this.url} requires a token: set ${TOKEN_VARIABLE}, or admin.token in the configuration (--config FILE)`;
    if (status === 404 && said.startsWith('there is nothing at'))
      return `the service at ${this.url} has no ${path.split('?')[0]}: it belongs to another service; pass that service's admin address with --admin HOST:PORT`;
    // Messages about a configuration have several lines.
    return said.split('\n').map(printable).join('\n') || `${this.url}${path} answered ${status}`;
  }
}

/** An address on this machine for a service that listens on all of them. */
export function reachable(host: string): string {
  return host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
}

function baseUrl(address: string): string {
  const url = /^https?:\/\//.test(address) ? address : `http://${address}`;
  if (!URL.canParse(url)) throw new Error(`--admin ${address}: expected host:port, such as 127.0.0.1:8888`);
  return url.replace(/\/+$/, '');
}
