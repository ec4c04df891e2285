import { median } from '../quantile.ts';
import { escaped, figure, svg, ticks } from './svg.ts';

export interface Line {
  label: string;
  /** By x, one value or several of repetitions. */
  points: { x: number; values: number[] }[];
}

export interface Panel {
  title: string;
  unit: string;
  lines: Line[];
}

export interface Axis {
  label: string;
  scale: 'linear' | 'log';
  show(x: number): string;
}

const PANEL_WIDTH = 400;
const PANEL_HEIGHT = 230;
const LEFT = 52;
const RIGHT = 16;
const TOP = 52;
const BOTTOM = 42;

/** Panels two in a row, each with its own scale from 0: what is flat looks flat. */
export function lineChart(title: string, axis: Axis, panels: readonly Panel[]): string {
  const columns = Math.min(2, panels.length);
  const rows = Math.ceil(panels.length / columns);
  const drawn = panels.map((panel, i) => {
    const [x, y] = [(i % columns) * PANEL_WIDTH, 34 + Math.floor(i / columns) * PANEL_HEIGHT];
    return `<g transform="translate(${x} ${y})">\n${draw(panel, axis).join('\n')}\n</g>`;
  });
  return svg(Math.max(PANEL_WIDTH * columns, 480), 34 + rows * PANEL_HEIGHT, title, [
    `<text class="title" x="8" y="20">${escaped(title)}</text>`,
    ...drawn,
  ]);
}

function draw({ title, unit, lines }: Panel, axis: Axis): string[] {
  const all = lines.flatMap(({ points }) => points);
  const xs = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b);
  const steps = ticks(Math.max(...all.flatMap(({ values }) => values), 1e-9));
  const most = steps.at(-1)!;
  const place = (x: number) => (axis.scale === 'log' ? logPlace(xs, x) : linearPlace(xs, x));
  const px = (x: number) => LEFT + place(x) * (PANEL_WIDTH - LEFT - RIGHT);
  const py = (y: number) => PANEL_HEIGHT - BOTTOM - (y / most) * (PANEL_HEIGHT - TOP - BOTTOM);
  const grid = steps.flatMap((y) => [
    `<path class="grid" d="M${LEFT} ${py(y).toFixed(1)}H${PANEL_WIDTH - RIGHT}"/>`,
    `<text class="soft small" x="${LEFT - 6}" y="${(py(y) + 4).toFixed(1)}" text-anchor="end">${figure(y)}</text>`,
  ]);
  const labels = xs.map(
    (x) =>
      `<text class="soft small" x="${px(x).toFixed(1)}" y="${PANEL_HEIGHT - BOTTOM + 16}" text-anchor="middle">${escaped(axis.show(x))}</text>`,
  );
  let legendAt = LEFT;
  const legend =
    lines.length === 1
      ? []
      : lines.flatMap(({ label }, i) => {
          const at = legendAt;
          legendAt += 24 + label.length * 6.3;
          return [
            `<rect class="d${i % 3}" x="${at}" y="28" width="10" height="10" rx="2"/>`,
            `<text class="small" x="${at + 14}" y="37">${escaped(label)}</text>`,
          ];
        });
  const curves = lines.flatMap(({ points }, i) => {
    const path = points.map(({ x, values }) => `${px(x).toFixed(1)} ${py(median(values)).toFixed(1)}`);
    return [
      `<path class="line c${i % 3}" d="M${path.join('L')}"/>`,
      ...points.flatMap(({ x, values }) =>
        values.map(
          (value) =>
            `<circle class="d${i % 3}" cx="${px(x).toFixed(1)}" cy="${py(value).toFixed(1)}" r="${values.length > 1 ? 2.2 : 3.2}"/>`,
        ),
      ),
    ];
  });
  return [
    `<text class="panel" x="8" y="16">${escaped(title)} <tspan class="soft light">${escaped(unit)}</tspan></text>`,
    ...legend,
    ...grid,
    ...labels,
    `<text class="soft small" x="${(LEFT + PANEL_WIDTH - RIGHT) / 2}" y="${PANEL_HEIGHT - 8}" text-anchor="middle">${escaped(axis.label)}</text>`,
    ...curves,
  ];
}

/** Decades are equally far apart; zero stands one before the first. */
function logPlace(xs: readonly number[], x: number): number {
  const positive = xs.filter((n) => n > 0);
  const [least, most] = [Math.log10(positive[0] ?? 1), Math.log10(positive.at(-1) ?? 10)];
  const from = xs[0] === 0 ? least - 1 : least;
  return most === from ? 0.5 : (((x > 0 ? Math.log10(x) : from) - from) / (most - from)) * 0.94 + 0.03;
}

function linearPlace(xs: readonly number[], x: number): number {
  const [least, most] = [xs[0] ?? 0, xs.at(-1) ?? 1];
  return most === least ? 0.5 : ((x - least) / (most - least)) * 0.94 + 0.03;
}
