import type { Plot } from './finding.ts';

const WIDTH = 720;
const HEIGHT = 220;
const LEFT = 64;
const RIGHT = 12;
const TOP = 14;
const BOTTOM = 26;
const TICKS = 4;
/** Longer gaps between points are not connected: the pipeline was down. */
const GAP_SECONDS = 1;

/** A plot as SVG text. Colours are CSS classes, for dark and light pages. */
export function linePlot({ title, unit, series, marks, limit }: Plot): string {
  const all = series.flatMap(({ points }) => points);
  const end = Math.max(1, ...all.map(([at]) => at));
  const top = niceCeiling(Math.max(1, limit?.value ?? 0, ...all.map(([, value]) => value)));
  const x = (at: number) => (LEFT + (at / end) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value: number) => (HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const rows = Array.from({ length: TICKS + 1 }, (_, i) => (top * i) / TICKS).map(
    (value) =>
      `<path class="grid" d="M${LEFT} ${y(value)}H${WIDTH - RIGHT}"/><text x="${LEFT - 6}" y="${Number(y(value)) + 4}" text-anchor="end">${short(value)}${value > 0 ? unit : ''}</text>`,
  );
  const seconds = Array.from({ length: Math.floor(end / 5) + 1 }, (_, i) => i * 5).map(
    (at) => `<text x="${x(at)}" y="${HEIGHT - 8}" text-anchor="middle">${at} s</text>`,
  );
  const lines = series.map(({ points }, i) => {
    const path = points
      .map(([at, value], j) => {
        const joined = j > 0 && at - points[j - 1]![0] <= GAP_SECONDS;
        return `${joined ? 'L' : 'M'}${x(at)} ${y(value)}`;
      })
      .join('');
    return `<path class="line s${i}" d="${path}"/>`;
  });
  const labels = marks.map(
    ([at, what]) =>
      `<path class="mark" d="M${x(at)} ${TOP}V${HEIGHT - BOTTOM}"/><text x="${Number(x(at)) + 4}" y="${TOP + 10}">${escaped(what)}</text>`,
  );
  const most = limit
    ? `<path class="limit" d="M${LEFT} ${y(limit.value)}H${WIDTH - RIGHT}"/><text x="${WIDTH - RIGHT}" y="${Number(y(limit.value)) - 5}" text-anchor="end">limit ${escaped(limit.name)}</text>`
    : '';
  const legend = series
    .map(({ name }, i) => `<span class="key"><i class="s${i}"></i>${escaped(name)}</span>`)
    .join(' ');
  return `<figure><figcaption>${escaped(title)} ${legend}</figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(title)}">
${[...rows, ...seconds, most, ...labels, ...lines].filter(Boolean).join('\n')}
</svg></figure>`;
}

/** The next number of the form 1, 2, 4, 5, 8 or 10 times a power of ten. */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 5, 8, 10].find((step) => step * power >= value) ?? 10) * power;
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toFixed(2))} M`;
  return value >= 1e3 ? `${Number((value / 1e3).toFixed(1))} k` : String(Number(value.toFixed(1)));
}

export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
