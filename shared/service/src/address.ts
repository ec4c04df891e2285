/** An address to listen on. */
export interface Address {
  host: string;
  port: number;
}

/** `host:port` as in a URL; IPv6 in brackets. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
