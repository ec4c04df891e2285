import { createServer } from 'node:net';

/** An address to listen on. */
export interface Address {
  host: string;
  port: number;
}

/** All addresses: `::` includes IPv4, and is replaced by it where IPv6 is missing. */
const ALL = '::';

/** The host to listen on for a configured `host`. */
export async function availableHost(host: string): Promise<string> {
  if (host !== ALL) return host;
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve('0.0.0.0'));
    probe.listen({ host: ALL, port: 0 }, () => probe.close(() => resolve(ALL)));
  });
}

/** `host:port` as in a URL; IPv6 in brackets. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
