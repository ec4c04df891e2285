import { isIPv4, isIPv6 } from 'node:net';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  ...{ B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
  ...{ KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 },
};
const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 60e3, h: 3_600e3, d: 86_400e3 };

/** Reads `128MiB`, `4MB`, or a plain number of bytes. @returns bytes, or undefined when it is no size */
export function parseSize(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(value.trim()) : null;
  if (!match) return undefined;
  const factor = SIZE_UNITS[match[2] === '' ? 'B' : match[2]!];
  const bytes = factor === undefined ? Number.NaN : Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Reads `500ms`, `1.5s`, `72h`. A number without a unit is none. @returns ms, or undefined when it is no duration */
export function parseDuration(value: unknown): number | undefined {
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(value.trim()) : null;
  if (!match) return undefined;
  const ms = Number(match[1]) * DURATION_UNITS[match[2]!]!;
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : undefined;
}

/** Reads `host:port`, `[::1]:4318`, or `:4318` (all addresses, of both families). */
export function parseListen(value: unknown): { host: string; port: number } | undefined {
  const match =
    typeof value === 'string' ? /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]*):(\d{1,5})$/.exec(value.trim()) : null;
  if (!match) return undefined;
  const port = Number(match[2]);
  if (port > 65_535) return undefined;
  const host = match[1]!.replace(/^\[|\]$/g, '');
  if (match[1]!.startsWith('[') && !isIPv6(host)) return undefined;
  // Numbers and dots alone are an IPv4 address, or a mistyped one; never a name.
  if (/^[\d.]+$/.test(host) && !isIPv4(host)) return undefined;
  return { host: host === '' ? '::' : host, port };
}

/** Whether only this machine can reach an address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
