import { BlockList, isIP } from 'node:net';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The proxy for a URL: the configured one, or that of the usual environment variables.
 * @param configured URL of a proxy; `none` for no proxy, whatever the environment says
 * @throws Error if the environment's value is not a URL
 */
export function proxyFor(url: URL, configured: string | undefined, env: Environment): string | undefined {
  if (configured === 'none') return undefined;
  if (configured !== undefined) return configured;
  const name = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const proxy = variable(env, name);
  if (!proxy || isExcepted(url, variable(env, 'no_proxy') ?? '')) return undefined;
  const full = withScheme(proxy);
  if (URL.canParse(full) && /^https?:\/\/./.test(full)) return full;
  throw new Error(
    `the environment variable ${name} is not a proxy URL; expected http://host:port or https://host:port`,
  );
}

/** For messages: without the password. */
export function proxyName(proxy: string): string {
  return new URL(proxy).host;
}

/** The lower-case name takes precedence, as with curl. */
function variable(env: Environment, name: string): string | undefined {
  return env[name] || env[name.toUpperCase()] || undefined;
}

function withScheme(proxy: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
}

/**
 * Whether NO_PROXY matches the host: `*`, a name with all names below it, `.name` for those below it, an address or a range.
 */
function isExcepted(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return noProxy
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
    .some((entry) => {
      if (entry === '*') return true;
      if (entry.includes('/')) return isInRange(host, entry);
      const [, name = '', onPort] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(isIP(entry) ? `[${entry}]` : entry) ?? [];
      if (onPort !== undefined && onPort !== port) return false;
      const below = name.replace(/^\*?\./, '');
      return (below === name && host === name) || host.endsWith(`.${below}`);
    });
}

function isInRange(host: string, range: string): boolean {
  const [address = '', prefix = ''] = range.split('/');
  const family = isIP(address);
  if (family === 0 || isIP(host) !== family || !/^\d{1,3}$/.test(prefix)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  if (Number(prefix) > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(address, Number(prefix), type);
  return list.check(host, type);
}
