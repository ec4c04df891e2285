import { loadConfig } from '@nrdot/config';
import { formatAddress } from '@nrdot/service';
import { causeText } from '@nrdot/telemetry';
import { configSource } from './config-flags.ts';
import { printable } from './printable.ts';

/** How a command addresses a process. */
export interface AdminFlags {
  config?: string;
  /** `host:port` or a URL; defaults to admin.listen of the configuration. */
  admin?: string;
}

const TIMEOUT_MS = 30_000;
const TOKEN_VARIABLE = 'NRDOT_ADMIN_TOKEN';

/** An error answer, with a message for people; `body` is the service's answer, for programs. */
class AdminRefusal extends Error {
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, message: string, body: unknown) {
    super(message);
    this.name = 'AdminRefusal';
    this.status = status;
    this.body = body;
  }
}

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
    // For a service that listens on all addresses, connect to this machine.
    const address = formatAddress({ host: host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host, port });
    this.url = baseUrl(flags.admin ?? address);
  }

  /**
   * @param timeoutMs longer for requests that may have to read a whole disk
   * @throws AdminRefusal, or Error if nothing answers
   */
  async get<T>(path: string, timeoutMs = TIMEOUT_MS): Promise<T> {
    return (await (await this.#request('GET', path, undefined, AbortSignal.timeout(timeoutMs))).json()) as T;
  }

  /** @throws AdminRefusal, or Error if nothing answers */
  async post<T>(path: string, body?: object, timeoutMs = TIMEOUT_MS): Promise<T> {
    return (await (await this.#request('POST', path, body, AbortSignal.timeout(timeoutMs))).json()) as T;
  }

  /** The lines of an answer as they arrive, until it ends or `signal` aborts. */
  async *lines(path: string, signal: AbortSignal, method: 'GET' | 'POST' = 'GET'): AsyncGenerator<string> {
    const response = await this.#request(method, path, undefined, signal);
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
      if (!signal.aborted) throw error;
    }
    const rest = line.join('');
    if (rest !== '') yield rest;
  }

  async #request(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.url + path, {
        method,
        signal,
        headers: {
          ...(this.#token ? { authorization: `Bearer ${this.#token}` } : {}),
          ...(body ? { 'content-type': 'application/json' } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
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
    throw new AdminRefusal(response.status, this.#explain(response.status, path, said.error?.message), said);
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

function baseUrl(address: string): string {
  const url = /^https?:\/\//.test(address) ? address : `http://${address}`;
  if (!URL.canParse(url)) throw new Error(`--admin ${address}: expected host:port, such as 127.0.0.1:8888`);
  return url.replace(/\/+$/, '');
}
