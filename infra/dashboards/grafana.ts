/** A dashboard in Grafana's JSON, with Prometheus as its source. */
import { CATALOGUE, type MetricSpec, PROCESS_METRICS } from '@nrdot/telemetry';
import type { Board, Panel } from './board.ts';

const KNOWN = new Set<string>([
  ...Object.values<MetricSpec>(CATALOGUE).flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
  ...PROCESS_METRICS.flatMap(([name]) => [name, `${name}_bucket`, `${name}_sum`, `${name}_count`]),
]);

/** Restricts every metric of the product in a query to the chosen jobs. */
function ofJob(expr: string): string {
  return expr.replace(/([a-z]\w*)(\{)?/g, (all, name: string, open: string | undefined) => {
    if (!KNOWN.has(name)) return all;
    return open ? `${name}{job=~"$job", ` : `${name}{job=~"$job"}`;
  });
}

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

/** The JSON that Grafana imports. */
export function grafanaJson({ uid, title, description, rows }: Board): string {
  const panels: object[] = [];
  let y = 0;
  for (const [title, inRow] of Object.entries(rows)) {
    const gridPos = { h: 1, w: 24, x: 0, y: y++ };
    panels.push({ id: panels.length + 1, type: 'row', title, collapsed: false, gridPos, panels: [] });
    let x = 0;
    let height = 0;
    for (const panel of inRow) {
      if (x + panel.width > 24) {
        y += height;
        x = 0;
        height = 0;
      }
      const gridPos = { h: panel.height, w: panel.width, x, y };
      panels.push({ id: panels.length + 1, ...panelJson(panel), gridPos });
      x += panel.width;
      height = Math.max(height, panel.height);
    }
    y += height;
  }
  const dashboard = {
    ...{ uid, title, description, tags: ['nrdot'] },
    ...{ schemaVersion: 39, version: 1, editable: true, graphTooltip: 1 },
    ...{ refresh: '10s', time: { from: 'now-1h', to: 'now' }, timezone: '' },
    links: [
      {
        ...{ type: 'dashboards', tags: ['nrdot'], title: 'NRDOT+', asDropdown: false, includeVars: true },
        ...{ keepTime: true, icon: 'dashboard', targetBlank: false, tooltip: '', url: '' },
      },
    ],
    templating: {
      list: [
        {
          name: 'datasource',
          type: 'datasource',
          label: 'Prometheus',
          query: 'prometheus',
          refresh: 1,
          hide: 0,
        },
        {
          ...{ name: 'job', type: 'query', label: 'Pipeline', datasource: DATASOURCE },
          query: { query: 'label_values(pipeline_build_info, job)', refId: 'job' },
          ...{ refresh: 2, sort: 1, multi: true, includeAll: true, allValue: '.*' },
          current: { text: 'All', value: '$__all' },
        },
      ],
    },
    annotations: { list: [] },
    panels,
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}

function panelJson(panel: Panel): object {
  const { type, title, description, unit, queries, thresholds, names, max, stacked } = panel;
  const steps = (thresholds ?? [[null, 'green']]).map(([value, color]) => ({ value, color }));
  const values =
    names && Object.entries(names).map(([value, [text, color]], index) => [value, { text, color, index }]);
  return {
    type,
    title,
    description,
    datasource: DATASOURCE,
    targets: queries.map(({ measure, legend }, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: DATASOURCE,
      expr: ofJob(measure.promql),
      legendFormat: legend,
      range: true,
    })),
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        ...(max === undefined ? {} : { max }),
        thresholds: { mode: 'absolute', steps },
        ...(values ? { mappings: [{ type: 'value', options: Object.fromEntries(values) }] } : {}),
        color: { mode: type === 'timeseries' ? 'palette-classic' : 'thresholds' },
        ...(type === 'timeseries'
          ? {
              custom: {
                ...{ lineWidth: 1, fillOpacity: stacked ? 30 : 8, showPoints: 'never', spanNulls: false },
                stacking: { mode: stacked ? 'normal' : 'none', group: 'A' },
                thresholdsStyle: { mode: thresholds ? 'line' : 'off' },
              },
            }
          : {}),
      },
      overrides: [],
    },
    options: OPTIONS[type],
  };
}

const LAST = { calcs: ['lastNotNull'], fields: '', values: false };
const OPTIONS: Readonly<Record<Panel['type'], object>> = {
  stat: {
    ...{ reduceOptions: LAST, colorMode: 'value', graphMode: 'area', textMode: 'auto' },
    ...{ justifyMode: 'center', orientation: 'auto' },
  },
  gauge: { reduceOptions: LAST, showThresholdMarkers: true, showThresholdLabels: false, orientation: 'auto' },
  timeseries: {
    legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' },
  },
  'state-timeline': {
    mergeValues: true,
    showValue: 'auto',
    rowHeight: 0.8,
    legend: { displayMode: 'list', placement: 'bottom', showLegend: false },
  },
};
