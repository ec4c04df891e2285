import { isIP } from 'node:net';

/** Where a request comes from. */
export interface RequestOrigin {
  /** The header `Host`. */
  host: string | undefined;
  origin: string | undefined;
  /** `Sec-Fetch-Site`. */
  site: string | undefined;
  /** It came over TLS. */
  isSecure?: boolean;
  /** It is for a file of our own page, to which pages of other sites may link: no data, and no work. */
  isFile?: boolean;
}

/**
 * Why a request must be rejected because a malicious page may have made a browser send it; undefined if it may be answered.
 *
 * A page from elsewhere, in the browser of somebody who can reach this address, may send requests here. Requests must
 * therefore come from our own page, or from no page at all, as commands do. That includes GET: the browser keeps the answer
 * from that page, but the work is done, and a tap is taken. And a name that its owner resolves to this machine would make
 * that page look like ours (DNS rebinding): so the only names of this server are addresses, `localhost`, those of
 * `admin.hosts`, and, with a token, names that cannot exist in public DNS.
 */
export function refusal(
  request: RequestOrigin,
  hasToken: boolean,
  hosts: readonly string[] = [],
): string | undefined {
  const { host = '', origin, site, isSecure = false, isFile = false } = request;
  const name = nameOf(host);
  if (!isOwnName(name) && !hosts.includes(name) && !(hasToken && isInnerName(name))) {
    return `"${name.slice(0, NAME_SHOWN)}" is not a name of this address; expected localhost, an IP address or one of admin.hosts in the header Host`;
  }
  if (isFile) return undefined;
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return 'a page of another site may not use this address; enter its URL by hand';
  }
  if (origin !== undefined && !isOrigin(origin, host, isSecure)) {
    return `the origin ${origin} may not use this address; expected the origin of this page, or none`;
  }
  return undefined;
}

const NAME_SHOWN = 100;

function nameOf(host: string): string {
  return host
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
}

function isOwnName(name: string): boolean {
  return name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0;
}

/** Names that cannot exist in public DNS: of containers and of services in a cluster. */
function isInnerName(name: string): boolean {
  return /^[a-z0-9_-]+$/.test(name) || /\.(svc|svc\.cluster\.local|internal)$/.test(name);
}

/**
 * Whether this is exactly the origin of the page at this host. A plain-text request may come from a proxy that terminates TLS.
 */
function isOrigin(origin: string, host: string, isSecure: boolean): boolean {
  const given = origin.toLowerCase();
  const own = host.toLowerCase();
  return given === `https://${own}` || (!isSecure && given === `http://${own}`);
}
