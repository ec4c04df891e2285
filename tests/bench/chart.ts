/** Small charts as SVG text, without a library: readable in a diff, and on dark and light pages. */

export interface Bar {
  label: string;
  ours: boolean;
  median: number;
  min: number;
  max: number;
}

const WIDTH = 760;
const LABEL = 300;
const ROW = 24;
const TOP = 34;
const OURS = '#1a7f5a';
const THEIRS = '#7a8899';

/** Horizontal bars of medians, with a line from the least to the most. */
export function barChart(title: string, unit: string, bars: readonly Bar[]): string {
  const most = Math.max(...bars.map(({ max }) => max), Number.MIN_VALUE);
  const x = (value: number) => LABEL + (value / most) * (WIDTH - LABEL - 90);
  const height = TOP + bars.length * ROW + 8;
  const rows = bars.map(({ label, ours, median, min, max }, i) => {
    const y = TOP + i * ROW;
    return [
      `<text x="${LABEL - 8}" y="${y + 14}" text-anchor="end"${ours ? ' font-weight="bold"' : ''}>${escaped(label)}</text>`,
      `<rect x="${LABEL}" y="${y + 3}" width="${(x(median) - LABEL).toFixed(1)}" height="14" fill="${ours ? OURS : THEIRS}"/>`,
      `<path d="M${x(min).toFixed(1)} ${y + 10}H${x(max).toFixed(1)}" stroke="#c0392b" stroke-width="2"/>`,
      `<text x="${(x(max) + 6).toFixed(1)}" y="${y + 14}">${short(median)} ${escaped(unit)}</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" fill="#888">
<title>${escaped(title)}</title>
<text x="8" y="18" font-size="14" font-weight="bold">${escaped(title)}</text>
${rows.join('\n')}
</svg>
`;
}

function short(value: number): string {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
