/** Dashboards as New Relic imports them: one with a page for each. */
import type { Board, Panel } from './board.ts';
import { nrqlText } from './measure.ts';

/** Columns of a page; panels are measured in 24. */
const COLUMNS = 12;
/** Rows of a panel's height: 8 become 3. */
const ROWS_PER_HEIGHT = 3 / 8;
const TITLE_ROWS = 1;

const SEVERITIES: Readonly<Record<string, string>> = { orange: 'WARNING', red: 'CRITICAL' };
/** Units that New Relic knows; others are shown as plain numbers. */
const UNITS: Readonly<Record<string, string>> = {
  bytes: 'BYTES',
  Bps: 'BYTES_PER_SECOND',
  s: 'SECONDS',
  percentunit: 'PERCENTAGE',
  locale: 'COUNT',
};

interface Place {
  column: number;
  row: number;
  width: number;
  height: number;
}

export function newRelicJson(boards: readonly Board[]): string {
  const dashboard = {
    name: 'NRDOT+',
    description: 'Where the data is, what is being lost (nothing), and why it waits.',
    permissions: 'PUBLIC_READ_WRITE',
    pages: boards.map(({ title, description, rows }) => ({
      name: title.replace(/^NRDOT\+ \d /, ''),
      description,
      widgets: widgets(rows),
    })),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function widgets(rows: Board['rows']): object[] {
  const made: object[] = [];
  let row = 1;
  for (const [title, panels] of Object.entries(rows)) {
    const whole = { column: 1, row, width: COLUMNS, height: TITLE_ROWS };
    made.push(widget('', whole, 'markdown', { text: `### ${title}` }));
    row += TITLE_ROWS;
    let column = 1;
    let height = 0;
    for (const panel of panels) {
      const width = Math.max(2, Math.round((panel.width / 24) * COLUMNS));
      const own = Math.ceil(panel.height * ROWS_PER_HEIGHT);
      if (column + width > COLUMNS + 1) {
        row += height;
        column = 1;
        height = 0;
      }
      const shown = widgetOf(panel, { column, row, width, height: own });
      if (!shown) continue;
      made.push(shown);
      column += width;
      height = Math.max(height, own);
    }
    row += height;
  }
  return made;
}

/** Undefined if none of its queries has a translation. */
function widgetOf(panel: Panel, layout: Place): object | undefined {
  const { type, title, unit, queries, thresholds, names, max, stacked } = panel;
  const overTime = type === 'timeseries' || type === 'state-timeline';
  const scale = unit === 'percentunit' ? 100 : 1;
  const texts = queries.flatMap(({ measure: { nrql }, legend }) =>
    typeof nrql === 'string' ? [] : [nrqlText(nrql, { alias: aliasOf(legend), overTime, scale })],
  );
  if (texts.length === 0) return undefined;
  const values = Object.entries(names ?? {}).map(([value, [text]]) => `${value} ${text}`);
  const head = values.length > 0 ? `${title} (${values.join(', ')})` : title;
  const chart = overTime ? (stacked ? 'area' : 'line') : type === 'gauge' ? 'bullet' : 'billboard';
  return widget(head, layout, chart, {
    facet: { showOtherSeries: false },
    legend: { enabled: true },
    nrqlQueries: texts.map((query) => ({ accountIds: [], query })),
    platformOptions: { ignoreTimeRange: texts.every((query) => / SINCE /.test(query)) },
    ...(type === 'gauge' ? { limit: (max ?? 1) * scale } : {}),
    ...(type === 'stat' && thresholds ? { thresholds: thresholdsOf(thresholds, scale) } : {}),
    ...(UNITS[unit] ? { units: { unit: UNITS[unit] } } : {}),
    ...(overTime ? { yAxisLeft: { zero: true } } : {}),
  });
}

function widget(title: string, layout: Place, type: string, rawConfiguration: object): object {
  return { title, layout, linkedEntityGuids: null, visualization: { id: `viz.${type}` }, rawConfiguration };
}

function thresholdsOf(thresholds: NonNullable<Panel['thresholds']>, scale: number): object[] {
  return thresholds.flatMap(([from, colour]) => {
    const alertSeverity = SEVERITIES[colour];
    return from !== null && alertSeverity ? [{ alertSeverity, value: from * scale }] : [];
  });
}

/** A legend without labels, which facets show themselves. */
function aliasOf(legend: string): string {
  return legend
    .replace(/\{\{\w+\}\}/g, '')
    .replace(/\s+/g, ' ')
    .replace(/^[\s:]+|[\s:]+$/g, '');
}
