import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Config } from '@nrdot/config';

type CorsOptions = Config['receiver']['cors'];

/** Which pages browsers may send from (Fetch Standard, "CORS protocol"). */
export class Cors {
  readonly #options: CorsOptions;
  readonly #anyOrigin: boolean;
  readonly #origins: readonly OriginPattern[];

  constructor(options: CorsOptions) {
    this.#options = options;
    this.#anyOrigin = options.allowedOrigins.includes('*');
    this.#origins = options.allowedOrigins.map(originPattern);
  }

  /** Sets the headers that let the requesting page read the answer. */
  allow(request: IncomingMessage, response: ServerResponse): void {
    const { origin } = request.headers;
    if (origin === undefined || this.#origins.length === 0) return;
    const { allowCredentials } = this.#options;
    const isAllowed = this.#anyOrigin || this.#origins.some((pattern) => matches(pattern, origin));
    // With credentials, browsers do not accept `*`: the origin has to be named.
    const named = !this.#anyOrigin || allowCredentials;
    if (named) response.setHeader('vary', 'Origin');
    if (!isAllowed) return;
    response.setHeader('access-control-allow-origin', named ? origin : '*');
    if (allowCredentials) response.setHeader('access-control-allow-credentials', 'true');
  }

  preflight(request: IncomingMessage, response: ServerResponse): void {
    const { allowedHeaders, maxAgeMs } = this.#options;
    if (
      response.hasHeader('access-control-allow-origin') &&
      request.headers['access-control-request-method']
    ) {
      response.setHeader('access-control-allow-methods', 'POST');
      response.setHeader(
        'access-control-allow-headers',
        ['content-type', 'content-encoding', ...allowedHeaders].join(', '),
      );
      response.setHeader('access-control-max-age', String(Math.floor(maxAgeMs / 1000)));
    }
    response.writeHead(204, { allow: 'POST, OPTIONS' }).end();
  }
}

/** The parts before and after the `*`; the whole origin if there is none. */
type OriginPattern = string | { before: string; after: string };

function originPattern(written: string): OriginPattern {
  const at = written.indexOf('*');
  return at < 0 ? written : { before: written.slice(0, at), after: written.slice(at + 1) };
}

function matches(pattern: OriginPattern, origin: string): boolean {
  if (typeof pattern === 'string') return origin === pattern;
  const { before, after } = pattern;
  return (
    origin.length > before.length + after.length &&
    origin.startsWith(before) &&
    origin.endsWith(after) &&
    /^[a-z0-9.-]+$/.test(origin.slice(before.length, origin.length - after.length))
  );
}
