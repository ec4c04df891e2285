/** Formats numbers and times for people, for all output: log, status, shutdown. */

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.5 MiB` */
export function sizeText(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${SIZES[power]}`;
}

/** `45 s`, `12 min`, `3.5 h`, `4 d` */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'for ever';
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 72 * 3600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** `12,345` */
export function numberText(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** `1 item`, `12,345 items` */
export function countText(n: number, one: string, many = `${one}s`): string {
  return `${numberText(n)} ${n === 1 ? one : many}`;
}

/** `2026-11-24T10:00:00Z`, or `-` for 0; an invalid time is shown unchanged */
export function timeText(ms: number): string {
  if (ms === 0) return '-';
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : `${date.toISOString().slice(0, 19)}Z`;
}

/** `90 %` of a share from 0 to 1. */
export function percentText(share: number): string {
  return `${Math.round(share * 100)} %`;
}
