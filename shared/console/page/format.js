/** Formats numbers for people. Every function accepts absent values and returns "–" for them. */

const NONE = '–';

/** @param {number | undefined} n */
export function count(n) {
  return n === undefined ? NONE : Math.round(n).toLocaleString('en-US');
}

/** Short: 12.3 k. @param {number | undefined | null} n */
export function short(n) {
  if (n === undefined || n === null) return NONE;
  const size = Math.abs(n);
  if (size < 10 && !Number.isInteger(n)) return n.toFixed(1);
  if (size < 1_000) return String(Math.round(n));
  const [unit, by] = size < 1e6 ? ['k', 1e3] : size < 1e9 ? ['M', 1e6] : ['G', 1e9];
  const value = n / /** @type {number} */ (by);
  return `${Math.abs(value) < 100 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** @param {number | undefined} perSecond */
export function rate(perSecond) {
  if (perSecond === undefined) return NONE;
  return perSecond === 0 ? '0/s' : perSecond < 0.05 ? '<0.1/s' : `${short(perSecond)}/s`;
}

/** @param {number | undefined | null} n */
export function bytes(n) {
  if (n === undefined || n === null) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  let value = n;
  while (value >= 1024 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

/** @param {number | undefined} share 0 to 1 */
export function percent(share, digits = 0) {
  return share === undefined ? NONE : `${(share * 100).toFixed(digits)} %`;
}

/** @param {number | undefined | null} ms */
export function duration(ms) {
  if (ms === undefined || ms === null) return NONE;
  const s = Math.max(0, ms / 1000);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${String(Math.round(s % 60)).padStart(2, '0')} s`;
  if (s < 172_800)
    return `${Math.floor(s / 3_600)} h ${String(Math.round((s % 3_600) / 60)).padStart(2, '0')} min`;
  return `${Math.round(s / 86_400)} d`;
}

/** @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
