/** What the charts share. They follow the reader's light or dark scheme, also inside an <img>. */

/** Colours by class: text, soft text, lines of the grid, ours, peers, ranges, and what else there is to tell apart. */
const LIGHT = ['#1f2328', '#59636e', '#d8dee4', '#0f7b6c', '#a3adb9', '#1f2328', '#b35900', '#6639ba'];
const DARK = ['#e6edf3', '#9198a1', '#3d444d', '#3fc1ad', '#5f6b78', '#e6edf3', '#f0954a', '#b392f0'];

/** Plain rules and no variables: not every viewer of SVG knows those. */
function colours([text, soft, grid, ours, theirs, range, second, third]: readonly string[]): string {
  return [
    `text { fill: ${text}; }`,
    `.soft { fill: ${soft}; }`,
    `.grid { stroke: ${grid}; }`,
    `.ours, .d0 { fill: ${ours}; }`,
    `.theirs { fill: ${theirs}; }`,
    `.range { stroke: ${range}; }`,
    `.limit, .c1 { stroke: ${second}; }`,
    `.c0 { stroke: ${ours}; }`,
    `.c2 { stroke: ${third}; }`,
    `.d1 { fill: ${second}; }`,
    `.d2 { fill: ${third}; }`,
  ].join('\n');
}

const STYLE = `<style>
svg { font-family: system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; font-size: 12px; }
.title { font-size: 14px; font-weight: 600; }
.panel { font-size: 12.5px; font-weight: 600; }
.light { font-weight: 400; }
.small { font-size: 11px; }
text.ours { font-weight: 600; }
.range { fill: none; stroke-width: 1.5; opacity: 0.75; }
.grid { stroke-width: 1; }
.limit { stroke-width: 1.5; stroke-dasharray: 4 3; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
${colours(LIGHT)}
@media (prefers-color-scheme: dark) {
${colours(DARK)}
}
</style>`;

export function svg(width: number, height: number, title: string, rows: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escaped(title)}</title>
${STYLE}
${rows.join('\n')}
</svg>
`;
}

export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** Three figures, and no more than are needed. */
export function figure(value: number): string {
  if (value === 0) return '0';
  if (value >= 10_000) return `${Number((value / 1000).toPrecision(3))}k`;
  if (value >= 100) return value.toFixed(0);
  return String(Number(value.toPrecision(value < 10 ? 2 : 3)));
}

/** From 0 to a round number at or above `most`, in three to five even steps of 1, 2, 2.5 or 5 × a power of ten. */
export function ticks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = ([1, 2, 2.5, 5].find((n) => n * power * 4.6 >= most) ?? 10) * power;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}
