/** What the charts share. They follow the reader's light or dark scheme, also inside an <img>. */

export const STYLE = `<style>
svg { --text: #1f2328; --soft: #59636e; --grid: #d1d9e0; --ours: #0f7b6c; --second: #b35900; --third: #6639ba; --theirs: #98a4b3; --range: #1f2328; font-family: system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; font-size: 12px; }
@media (prefers-color-scheme: dark) {
svg { --text: #e6edf3; --soft: #9198a1; --grid: #3d444d; --ours: #3fc1ad; --second: #f0954a; --third: #b392f0; --theirs: #6e7987; --range: #e6edf3; }
}
text { fill: var(--text); }
.soft { fill: var(--soft); }
.title { font-size: 14px; font-weight: 600; }
.panel { font-size: 12.5px; font-weight: 600; }
.ours { fill: var(--ours); font-weight: 600; }
.bar.ours { fill: var(--ours); }
.bar.theirs { fill: var(--theirs); }
.range { stroke: var(--range); stroke-width: 1.5; opacity: .75; }
.grid { stroke: var(--grid); stroke-width: 1; }
.limit { stroke: var(--second); stroke-width: 1.5; stroke-dasharray: 4 3; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c0 { stroke: var(--ours); } .c1 { stroke: var(--second); } .c2 { stroke: var(--third); }
.d0 { fill: var(--ours); } .d1 { fill: var(--second); } .d2 { fill: var(--third); }
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
  return String(Number(value.toPrecision(2)));
}

/** The round number at or above a value: 1, 2, 2.5, 5 × a power of ten. */
export function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, Number.MIN_VALUE)));
  return ([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8].find((n) => n * power >= value) ?? 10) * power;
}
