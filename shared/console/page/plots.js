import { h, say, set, svg } from './element.js';
import { duration, percent, rate, short } from './format.js';

/** @typedef {import('./connection.js').HistoryColumns} HistoryColumns */
/** @typedef {import('@nrdot/status').HistoryColumn} HistoryColumn */
/**
 * @typedef {object} Plot
 * @property {string} title
 * @property {(value: number) => string} format
 * @property {[name: HistoryColumn, title: string, color: string][]} lines
 * @property {number} [most] a fixed end of the axis
 * @property {number} [mark] a line of its own, such as a threshold
 */

const SPAN_MS = 15 * 60_000;
const WIDTH = 300;
const HEIGHT = 72;

/** @type {readonly Plot[]} */
const PLOTS = [
  {
    title: 'In and out',
    format: rate,
    lines: [
      ['received', 'in', 'in'],
      ['delivered', 'out', 'out'],
    ],
  },
  {
    title: 'To and from disk',
    format: rate,
    lines: [
      ['stored', 'to disk', 'stored'],
      ['replayed', 'replayed', 'replayed'],
    ],
  },
  { title: 'On disk', format: short, lines: [['onDisk', 'items', 'stored']] },
  { title: 'Waiting in Redis', format: short, lines: [['waiting', 'items', 'in']] },
  { title: 'Oldest waiting', format: duration, lines: [['oldestAgeMs', 'age', 'in']] },
  {
    title: 'Queue fill',
    format: (value) => percent(value, value > 0 && value < 0.1 ? 1 : 0),
    lines: [['fill', 'fill', 'in']],
    most: 1,
    mark: 0.95,
  },
  {
    title: 'Moved by class',
    format: rate,
    lines: [
      ['movedCritical', 'critical', 'critical'],
      ['movedHigh', 'high', 'high'],
      ['movedNormal', 'normal', 'normal'],
    ],
  },
  { title: 'Key-sets in use', format: short, lines: [['keysUsed', 'key-sets', 'keys']] },
];

/**
 * Small plots of one width and one time axis, with a band where the breaker was open.
 * @param {Element} root
 */
export function plots(root) {
  /** @param {number | undefined} x */
  const pointAll = (x) => {
    for (const one of all) one.point(x);
  };
  /** @type {ReturnType<typeof figure>[]} */
  const all = PLOTS.map((plot) => figure(plot, pointAll));
  root.append(...all.map(({ element }) => element));
  return {
    /** @param {HistoryColumns} history @param {number} now */
    update(history, now) {
      for (const one of all) one.update(history, now);
    },
  };
}

/** @param {Plot} plot @param {(x: number | undefined) => void} pointAll */
function figure(plot, pointAll) {
  const bands = svg('g', { class: 'bands' });
  const marks = svg('g', { class: 'marks' });
  const lines = plot.lines.map(([, , color]) => svg('path', { class: `line ${color}` }));
  const areas = plot.lines.length === 1 ? [svg('path', { class: `area ${plot.lines[0]?.[2]}` })] : [];
  const cursor = svg('line', { class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden' });
  const drawing = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', tabindex: 0 },
    ...[bands, marks, ...areas, ...lines, cursor],
  );
  const most = h('span', { class: 'most' });
  const values = plot.lines.map(([, , color]) => h('strong', { class: color }));
  const legend = plot.lines.map(([, title, color], i) =>
    h('span', { class: 'value' }, plot.lines.length > 1 && h('i', { class: color }, title), values[i]),
  );
  const when = h('span', { class: 'when' });
  const element = h(
    'figure',
    { class: 'plot' },
    h('figcaption', {}, h('span', { class: 'title' }, plot.title), h('span', { class: 'values' }, ...legend)),
    h('div', { class: 'field' }, most, drawing),
    h('div', { class: 'axis', 'aria-hidden': 'true' }, h('span', {}, '−15 min'), when, h('span', {}, 'now')),
  );
  /** @type {HistoryColumns | undefined} */
  let shown;
  let until = 0;
  /** @type {number | undefined} */
  let pointed;

  const label = () => {
    if (!shown) return;
    const index =
      pointed === undefined ? shown.at.length - 1 : nearest(shown.at, until - SPAN_MS * (1 - pointed));
    const column = (/** @type {HistoryColumn} */ name) => /** @type {HistoryColumns} */ (shown).columns[name];
    for (const [i, [name]] of plot.lines.entries()) {
      const value = column(name)[index] ?? undefined;
      say(/** @type {Element} */ (values[i]), value === undefined ? '–' : plot.format(value));
    }
    const at = pointed === undefined ? undefined : shown.at[index];
    say(when, at === undefined ? '' : new Date(at).toLocaleTimeString([], { hour12: false }));
    cursor.setAttribute('visibility', at === undefined ? 'hidden' : 'visible');
    if (at === undefined) return;
    for (const end of ['x1', 'x2']) cursor.setAttribute(end, place(at, until).toFixed(1));
  };
  drawing.addEventListener('pointermove', (event) => {
    const { left, width } = drawing.getBoundingClientRect();
    pointAll((event.clientX - left) / Math.max(1, width));
  });
  for (const end of ['pointerleave', 'blur']) drawing.addEventListener(end, () => pointAll(undefined));
  drawing.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    pointAll(Math.min(1, Math.max(0, (pointed ?? 1) + step / 60)));
  });

  return {
    element,
    /** Shows the values of a moment. @param {number | undefined} x 0 to 1; undefined: the last */
    point(x) {
      pointed = x;
      label();
    },
    /** @param {HistoryColumns} history @param {number} now */
    update(history, now) {
      shown = history;
      until = now;
      const { at, columns } = history;
      const known = plot.lines.flatMap(([name]) => columns[name].filter((value) => value !== null));
      const highest = plot.most ?? niceAbove(Math.max(0, ...known));
      const y = (/** @type {number} */ value) =>
        HEIGHT - 1 - (Math.min(value, highest) / highest) * (HEIGHT - 6);
      for (const [i, [name]] of plot.lines.entries()) {
        const d = trace(at, columns[name], now, y);
        lines[i]?.setAttribute('d', d);
        if (areas[i]) areas[i].setAttribute('d', filled(d));
      }
      bands.replaceChildren(...openBands(at, columns.breaker, now));
      const markAt = plot.mark === undefined ? [] : [y(plot.mark)];
      marks.replaceChildren(...markAt.map((at) => svg('line', { x1: 0, x2: WIDTH, y1: at, y2: at })));
      say(most, plot.format(highest));
      const words = plot.lines.map(([name, title]) => {
        const column = columns[name].filter((value) => value !== null);
        const last = column.at(-1);
        return last === undefined
          ? `${title}: unknown`
          : `${title}: ${plot.format(last)} now, at most ${plot.format(Math.max(...column))}`;
      });
      set(drawing, 'aria-label', `${plot.title}, last 15 minutes. ${words.join('; ')}`);
      label();
    },
  };
}

/** @param {number} at @param {number} now */
function place(at, now) {
  return WIDTH * (1 - (now - at) / SPAN_MS);
}

/**
 * @param {readonly number[]} at
 * @param {readonly (number | null)[]} column
 * @param {number} now
 * @param {(value: number) => number} y
 */
function trace(at, column, now, y) {
  let d = '';
  let drawing = false;
  for (const [i, value] of column.entries()) {
    if (value === null) {
      drawing = false;
      continue;
    }
    d += `${drawing ? 'L' : 'M'}${place(at[i] ?? now, now).toFixed(1)} ${y(value).toFixed(1)}`;
    drawing = true;
  }
  return d;
}

/** Closes each piece of a line to the ground. @param {string} d */
function filled(d) {
  return d
    .split('M')
    .filter(Boolean)
    .map((piece) => {
      const points = piece.split('L');
      const x = (/** @type {string | undefined} */ point) => point?.split(' ')[0] ?? '0';
      return `M${x(points[0])} ${HEIGHT}L${piece}L${x(points.at(-1))} ${HEIGHT}Z`;
    })
    .join('');
}

/** @param {readonly number[]} at @param {readonly (number | null)[]} breaker @param {number} now */
function openBands(at, breaker, now) {
  const bands = [];
  for (let i = 0; i < breaker.length; i++) {
    if (!breaker[i]) continue;
    const from = place(at[i] ?? now, now);
    while (i + 1 < breaker.length && breaker[i + 1]) i++;
    const to = i + 1 < at.length ? place(at[i + 1] ?? now, now) : WIDTH;
    bands.push(
      svg('rect', { x: from.toFixed(1), width: Math.max(1, to - from).toFixed(1), y: 0, height: HEIGHT }),
    );
  }
  return bands;
}

/** The next of 1, 2, 5, 10, … @param {number} value */
function niceAbove(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/** @param {readonly number[]} at @param {number} wanted */
function nearest(at, wanted) {
  let best = 0;
  for (const [i, time] of at.entries()) {
    if (Math.abs(time - wanted) < Math.abs((at[best] ?? 0) - wanted)) best = i;
  }
  return best;
}
