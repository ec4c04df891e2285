import { randomBytes } from 'node:crypto';

const LASTS_MS = 60 * 60_000;
const MOST = 32;
const NAME = 'nrdot_page=';

/**
 * Read access to the pages below one path. A page of another package cannot send the token with each request, so whoever has
 * the token gets a cookie that is valid for that path, for an hour, and for reading only.
 */
export class PageSession {
  readonly #path: string;
  readonly #secure: boolean;
  readonly #until = new Map<string, number>();

  constructor(path: string, secure: boolean) {
    this.#path = path;
    this.#secure = secure;
  }

  /** @returns value of the header `Set-Cookie` */
  begin(now: number): string {
    for (const [id, until] of this.#until)
      if (until <= now || this.#until.size >= MOST) this.#until.delete(id);
    const id = randomBytes(32).toString('base64url');
    this.#until.set(id, now + LASTS_MS);
    const attributes = ['HttpOnly', 'SameSite=Strict', `Path=${this.#path}`, `Max-Age=${LASTS_MS / 1000}`];
    return [`${NAME}${id}`, ...attributes, ...(this.#secure ? ['Secure'] : [])].join('; ');
  }

  /** @param cookies value of the header `Cookie` */
  holds(cookies: string | undefined, now: number): boolean {
    const id = (cookies ?? '')
      .split(';')
      .map((pair) => pair.trim())
      .find((pair) => pair.startsWith(NAME))
      ?.slice(NAME.length);
    return id !== undefined && (this.#until.get(id) ?? 0) > now;
  }
}
