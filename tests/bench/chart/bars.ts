import { escaped, figure, svg } from './svg.ts';

export interface Bar {
  label: string;
  /** A second, softer text after the label. */
  remark?: string;
  ours: boolean;
  median: number;
  min: number;
  max: number;
}

const WIDTH = 840;
const LABEL = 365;
const RIGHT = 110;
const ROW = 25;
const TOP = 40;

/** Horizontal bars of medians, a thin line from the least to the most, and a dashed one for what is wanted. */
export function barChart(title: string, unit: string, bars: readonly Bar[], limit?: number): string {
  const most = Math.max(...bars.map(({ max }) => max), limit ?? 0, Number.MIN_VALUE);
  const x = (value: number) => LABEL + (value / most) * (WIDTH - LABEL - RIGHT);
  const bottom = TOP + bars.length * ROW;
  const rows = bars.flatMap(({ label, remark, ours, median, min, max }, i) => {
    const y = TOP + i * ROW;
    const who = ours ? 'ours' : 'theirs';
    const more = remark ? ` <tspan class="soft light">${escaped(remark)}</tspan>` : '';
    return [
      `<text x="${LABEL - 10}" y="${y + 14}" text-anchor="end"${ours ? ' class="ours"' : ''}>${escaped(label)}${more}</text>`,
      `<rect class="${who}" x="${LABEL}" y="${y + 2}" width="${Math.max(1, x(median) - LABEL).toFixed(1)}" height="16" rx="2"/>`,
      ...(max > min
        ? [`<path class="range" d="M${x(min).toFixed(1)} ${y + 7}v6m0 -3H${x(max).toFixed(1)}m0 -3v6"/>`]
        : []),
      `<text x="${(x(max) + 8).toFixed(1)}" y="${y + 14}"${ours ? ' class="ours"' : ''}>${figure(median)} ${escaped(unit)}</text>`,
    ];
  });
  const wanted =
    limit === undefined
      ? []
      : [
          `<path class="limit" d="M${x(limit).toFixed(1)} ${TOP - 4}V${bottom}"/>`,
          `<text class="soft" x="${x(limit).toFixed(1)}" y="${bottom + 14}" text-anchor="middle">wanted: ${figure(limit)} ${escaped(unit)}</text>`,
        ];
  return svg(WIDTH, bottom + (limit === undefined ? 8 : 22), title, [
    `<text class="title" x="8" y="20">${escaped(title)}</text>`,
    ...rows,
    ...wanted,
  ]);
}
