/** Dashboards and alerts speak of metrics that exist, and the committed files are those that the sources make. */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CATALOGUE, PROCESS_METRICS } from '@nrdot/telemetry';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ALERTS } from '../../infra/alerts/alerts.ts';
import { alertConditions } from '../../infra/alerts/new-relic.ts';
import { alertRules } from '../../infra/alerts/prometheus.ts';
import { BOARDS, DASHBOARDS, NEW_RELIC_DASHBOARD } from '../../infra/dashboards/index.ts';
import { nrqlComplaints } from './nrql.ts';
import { complaints } from './promql.ts';

const INFRA = fileURLToPath(new URL('../../infra/', import.meta.url));
const promtool = (process.env.PATH ?? '')
  .split(':')
  .map((dir) => `${dir}/promtool`)
  .find((file) => existsSync(file));
const read = (file: string) => readFileSync(`${INFRA}${file}`, 'utf8');

describe('the check against the catalogue', () => {
  it.each([
    ['sum(rate(receiver_items_total{signal="traces"}[5m]))', []],
    ['sum by (instance) (process_resident_memory_bytes) > 1e9 or vector(0)', []],
    ['rate(receiver_itms_total[5m])', ['receiver_itms_total is no metric']],
    ['receiver_items_total{class="high"}', ['receiver_items_total has no label class']],
    ['sum by (class) (cl_keys_used)', ['class is no label of what is grouped']],
    ['sum(rate(apq_spill_total[5m]))', ['sum of apq_spill_total, which every instance shows the whole of']],
  ])('%s', (expr, expected) => {
    expect(complaints(expr)).toEqual(expected);
  });
});

describe('the dashboards', () => {
  it('match their sources', () => {
    expect(readdirSync(`${INFRA}grafana/dashboards`).sort()).toEqual(DASHBOARDS.map(([file]) => file).sort());
    for (const [file, json] of DASHBOARDS)
      expect(read(`grafana/dashboards/${file}`), `npm run docs makes ${file} anew`).toBe(json);
  });

  it.each(DASHBOARDS)(
    '%s: each panel has a description, existing metrics, and its own position',
    (_file, json) => {
      const { panels, templating } = JSON.parse(json);
      expect(templating.list.map(({ name }: { name: string }) => name)).toEqual(['datasource', 'job']);
      const taken = new Set<string>();
      for (const { type, title, description, gridPos, targets, fieldConfig } of panels) {
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken.has(`${x} ${y}`), `${title} covers another panel`).toBe(false);
            taken.add(`${x} ${y}`);
          }
        expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
        if (type === 'row') continue;
        expect(description, title).toMatch(/\.$/);
        expect(fieldConfig.defaults.unit, title).toBeTruthy();
        for (const { expr, datasource } of targets) {
          expect(datasource.uid).toBe('${datasource}');
          expect(expr, title).toContain('job=~"$job"');
          expect(complaints(expr), `${title}: ${expr}`).toEqual([]);
        }
      }
    },
  );
});

interface Alert {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook_url: string };
}

describe('the alerts', () => {
  const alerts: Alert[] = parse(read('prometheus/alerts.yml')).groups.flatMap(
    ({ rules }: { rules: Alert[] }) => rules,
  );
  const names = alerts.map(({ alert }) => alert);

  it('match their source', () => {
    for (const file of ['prometheus/alerts.yml', 'helm/nrdot-plus/files/alerts.yml'])
      expect(read(file), `npm run docs makes ${file} anew`).toBe(alertRules());
  });

  it.each(alerts)('$alert describes the problem, uses existing metrics, and links to the runbook', (rule) => {
    const { alert, expr, labels, annotations } = rule;
    expect(alert).toMatch(/^Nrdot[A-Z]/);
    expect(['critical', 'warning']).toContain(labels.severity);
    expect(annotations.summary).not.toBe('');
    expect(annotations.description).toMatch(/\.$/);
    expect(annotations.runbook_url).toBe(`docs/operations.md#${alert.toLowerCase()}`);
    expect(complaints(expr)).toEqual([]);
  });

  it('have one entry each in the runbook, which has no others', () => {
    const entries = readFileSync(`${INFRA}../docs/operations.md`, 'utf8').split(/^### /m).slice(1);
    expect(entries.map((entry) => entry.split('\n', 1)[0]).sort()).toEqual([...names].sort());
    for (const entry of entries)
      for (const part of ['Means', 'Look', 'Do', 'Ends']) expect(entry).toContain(`**${part}**`);
  });

  it('have a test each', () => {
    const tests = parse(read('prometheus/alerts.test.yml')).tests as { name: string }[];
    expect(tests.map(({ name }) => name).sort()).toEqual([...names].sort());
  });

  it.skipIf(!promtool)('fire in their tests, and not just below the threshold (promtool)', () => {
    const check = (...args: string[]) =>
      execFileSync(promtool!, args, { cwd: `${INFRA}prometheus`, encoding: 'utf8', stdio: 'pipe' });
    expect(check('check', 'rules', 'alerts.yml')).toContain(`${names.length} rules found`);
    expect(check('check', 'config', '--syntax-only', 'prometheus.yml')).toContain('SUCCESS');
    expect(check('check', 'config', 'local.yml')).toContain(`SUCCESS: ${names.length} rules found`);
    expect(check('test', 'rules', 'alerts.test.yml')).toContain('SUCCESS');
  });
});

describe('New Relic', () => {
  it.each([
    [
      "SELECT rate(sum(receiver_items_total), 1 second) FROM Metric WHERE metricName = 'receiver_items_total'",
      [],
    ],
    ["SELECT sum(a_total) FROM Metric WHERE metricName = 'a_total'", ['a_total is no metric']],
    [
      "SELECT latest(receiver_items_total) FROM Metric WHERE metricName = 'receiver_items_total'",
      ['latest of receiver_items_total, a counter'],
    ],
    [
      "SELECT sum(cl_keys_used) FROM Metric WHERE metricName = 'cl_keys_used' FACET class",
      ['class is no attribute of cl_keys_used', 'sum of cl_keys_used, a gauge'],
    ],
    [
      "SELECT average(cl_latency_seconds) FROM Metric WHERE metricName = 'cl_latency_seconds'",
      ['average of cl_latency_seconds, a histogram'],
    ],
    ['SELECT max(cl_keys_used) FROM Metric', ['it names no metric', 'cl_keys_used is not in metricName']],
  ])('%s', (query, expected) => {
    expect(nrqlComplaints(query)).toEqual(expected);
  });

  const [file, json] = NEW_RELIC_DASHBOARD;
  const panels = BOARDS.flatMap(({ rows }) => Object.values(rows).flat());

  it('has a dashboard and conditions that match their sources', () => {
    expect(readdirSync(`${INFRA}newrelic/dashboards`)).toEqual([file]);
    expect(read(`newrelic/dashboards/${file}`), 'npm run docs makes it anew').toBe(json);
    expect(read('newrelic/alerts.json'), 'npm run docs makes it anew').toBe(alertConditions());
  });

  it('has each panel and each query, or the reason why not', () => {
    const reasons: string[] = [];
    for (const { title, queries } of panels)
      for (const { measure } of queries)
        if (typeof measure.nrql === 'string') {
          expect(measure.nrql, title).toMatch(/\S+ \S+ \S+/);
          reasons.push(title);
        }
    expect(reasons).toEqual(['Share of each class']);
    const { pages } = JSON.parse(json) as { pages: { widgets: { visualization: { id: string } }[] }[] };
    const widgets = pages
      .flatMap((page) => page.widgets)
      .filter(({ visualization: { id } }) => id !== 'viz.markdown');
    expect(widgets).toHaveLength(panels.length);
  });

  it('has a dashboard of charts with their own positions and existing metrics', () => {
    const { name, pages } = JSON.parse(json);
    expect(name).toBe('NRDOT+');
    for (const page of pages) {
      const taken = new Set<string>();
      for (const { title, layout, visualization, rawConfiguration } of page.widgets) {
        for (let x = layout.column; x < layout.column + layout.width; x++)
          for (let y = layout.row; y < layout.row + layout.height; y++) {
            expect(taken.has(`${x} ${y}`), `${title} covers another`).toBe(false);
            taken.add(`${x} ${y}`);
          }
        expect(layout.column + layout.width).toBeLessThanOrEqual(13);
        expect(visualization.id).toMatch(/^viz\.(line|area|billboard|bullet|markdown)$/);
        if (visualization.id === 'viz.markdown') continue;
        for (const { accountIds, query } of rawConfiguration.nrqlQueries) {
          expect(accountIds).toEqual([]);
          expect(query.includes('TIMESERIES'), query).toBe(/line|area/.test(visualization.id));
          expect(nrqlComplaints(query), query).toEqual([]);
        }
      }
    }
  });

  it('has each alert as a condition, or the reason why not', () => {
    const all = Object.values(ALERTS).flat();
    const without = all.filter(({ newRelic }) => typeof newRelic === 'string');
    for (const { name, newRelic } of without) expect(newRelic, name).toMatch(/\S+ \S+ \S+/);
    const conditions = JSON.parse(alertConditions()) as Record<string, string & number>[];
    expect([...conditions.map(({ name }) => name), ...without.map(({ name }) => name)].sort()).toEqual(
      all.map(({ name }) => name).sort(),
    );
    for (const {
      name,
      query,
      aggregation_window,
      slide_by,
      threshold_duration,
      ...condition
    } of conditions) {
      expect(nrqlComplaints(query!), name).toEqual([]);
      expect(query, name).toContain('FACET service.namespace');
      // What New Relic takes: windows of 30 s to 6 h, slides that divide them, and a duration of whole windows.
      expect(aggregation_window).toBeGreaterThanOrEqual(30);
      expect(aggregation_window).toBeLessThanOrEqual(21_600);
      expect(threshold_duration! % aggregation_window!, name).toBe(0);
      expect(aggregation_window! % (slide_by ?? aggregation_window!), name).toBe(0);
      expect(condition.description).not.toContain('$labels');
    }
  });

  it('has a Terraform module that reads existing files', () => {
    const module = ['main.tf', 'variables.tf', 'outputs.tf']
      .map((part) => read(`newrelic/${part}`))
      .join('\n');
    for (const [open, close] of ['{}', '[]', '()'])
      expect(module.split(open!).length, `${open}${close}`).toBe(module.split(close!).length);
    const declared = [...module.matchAll(/^variable "(\w+)"/gm)].map(([, name]) => name).sort();
    const used = [...new Set([...module.matchAll(/\bvar\.(\w+)/g)].map(([, name]) => name))].sort();
    expect(used).toEqual(declared);
    const fields = [...module.matchAll(/\b(?:each\.value|critical\.value|warning\.value|condition)\.(\w+)/g)];
    const [condition] = JSON.parse(alertConditions());
    for (const [, field = ''] of fields) expect(Object.keys(condition), field).toContain(field);
    expect(new Set(fields.map(([, field]) => field))).toEqual(new Set(Object.keys(condition)));
    expect(module).toContain('"\\"accountIds\\": []"');
    expect(json).toContain('"accountIds": []');
  });
});

describe('the pages about it', () => {
  const known = new Set<string>([
    ...Object.values(CATALOGUE).map(({ name }) => name),
    ...PROCESS_METRICS.map(([name]) => name),
  ]);
  it.each(['operations', 'tuning', 'troubleshooting', 'scaling', 'limiter'])(
    '%s.md mentions only existing metrics',
    (page) => {
      const text = readFileSync(`${INFRA}../docs/${page}.md`, 'utf8');
      const said = [
        ...text.matchAll(/`((?:receiver|cl|apq|exporter|dlq|pipeline|process|nodejs)_\w+)(?:\{[^`]*)?`/g),
      ];
      expect(said.length).toBeGreaterThan(3);
      for (const [, name = ''] of said) expect([...known], `${page}.md`).toContain(name);
    },
  );

  it('show valid queries', () => {
    const text = readFileSync(`${INFRA}../docs/tuning.md`, 'utf8');
    const queries = [...text.matchAll(/`(sum\([^`]*)`/g)].map(([, query = '']) => query);
    expect(queries.length).toBeGreaterThan(3);
    for (const query of queries) expect(complaints(query), query).toEqual([]);
  });
});
