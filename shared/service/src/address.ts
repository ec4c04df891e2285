import { createServer } from 'node:net';

/** Where to listen. */
export interface Address {
  host: string;
  port: number;
}

/** All addresses: `::` takes both families, and stands for IPv4 alone where there is no IPv6. */
const ALL = '::';

/** Where to listen when `host` is asked for. */
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
