import { isIP } from 'node:net';

/** What a request says about where it comes from. */
export interface RequestOrigin {
  method: string;
  /** The header `Host`. */
  host: string | undefined;
  origin: string | undefined;
  /** `Sec-Fetch-Site`. */
  site: string | undefined;
}

/**
 * Why a request must not be answered that a browser may have been talked into; undefined when it may.
 *
 * A page from elsewhere, open in the browser of somebody who can reach this address, may send requests here. What
 * changes something must therefore come from our own page, or from no page at all, as commands do. And without a token
 * a name that its owner points at this machine would make that page one of ours (DNS rebinding), so then only addresses
 * and `localhost` are names of this server.
 */
export function refusal(request: RequestOrigin, hasToken: boolean): string | undefined {
  const { method, host = '', origin, site } = request;
  if (!hasToken && !isOwnName(host)) {
    return `"${host}" is not a name of this address without admin.token; expected localhost or an IP address in the header Host`;
  }
  if (method === 'GET' || method === 'HEAD') return undefined;
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return 'a request from a page of another site changes nothing here';
  }
  if (origin !== undefined && hostOf(origin) !== host.toLowerCase()) {
    return `a request from the origin ${origin} changes nothing here; expected that of this page, or none`;
  }
  return undefined;
}

function isOwnName(host: string): boolean {
  const name = host
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  return name === 'localhost' || name.endsWith('.localhost') || isIP(name) !== 0;
}

/** As in a Host header: without the port that goes without saying. */
function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host.toLowerCase() : undefined;
}
