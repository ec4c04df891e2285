import { isIP } from 'node:net';

/** What a request says about where it comes from. */
export interface RequestOrigin {
  method: string;
  /** The header `Host`. */
  host: string | undefined;
  origin: string | undefined;
  /** `Sec-Fetch-Site`. */
  site: string | undefined;
  /** It came over TLS. */
  isSecure?: boolean;
}

/**
 * Why a request must not be answered that a browser may have been talked into; undefined when it may.
 *
 * A page from elsewhere, open in the browser of somebody who can reach this address, may send requests here. What
 * changes something must therefore come from our own page, or from no page at all, as commands do. And a name that its owner
 * points at this machine would make that page one of ours (DNS rebinding): only addresses, `localhost`, and with a token names
 * that nobody outside can have, are names of this server, and those of `admin.hosts`.
 */
export function refusal(
  request: RequestOrigin,
  hasToken: boolean,
  hosts: readonly string[] = [],
): string | undefined {
  const { method, host = '', origin, site, isSecure = false } = request;
  const name = nameOf(host);
  if (!isOwnName(name) && !hosts.includes(name) && !(hasToken && isInnerName(name))) {
    return `"${name.slice(0, NAME_SHOWN)}" is not a name of this address; expected localhost, an IP address or one of admin.hosts in the header Host`;
  }
  if (method === 'GET' || method === 'HEAD') return undefined;
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return 'a request from a page of another site changes nothing here';
  }
  if (origin !== undefined && !isOrigin(origin, host, isSecure)) {
    return `a request from the origin ${origin} changes nothing here; expected that of this page, or none`;
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

/** Names that no public DNS gives: of containers and of services in a cluster. */
function isInnerName(name: string): boolean {
  return /^[a-z0-9_-]+$/.test(name) || /\.(svc|svc\.cluster\.local|internal)$/.test(name);
}

/** Whether this is, to the letter, the origin of the page at this host. What comes in the clear may have left a proxy that speaks TLS. */
function isOrigin(origin: string, host: string, isSecure: boolean): boolean {
  const given = origin.toLowerCase();
  const own = host.toLowerCase();
  return given === `https://${own}` || (!isSecure && given === `http://${own}`);
}
