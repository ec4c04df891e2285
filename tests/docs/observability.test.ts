/** Dashboards and alerts speak of metrics that exist, and the committed files are those that the sources make. */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CATALOGUE, PROCESS_METRICS } from '@nrdot/telemetry';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DASHBOARDS } from '../../infra/grafana/source/index.ts';
import { complaints } from './promql.ts';

const INFRA = fileURLToPath(new URL('../../infra/', import.meta.url));
const promtool = (process.env.PATH ?? '')
  .split(':')
  .map((dir) => `${dir}/promtool`)
  .find((file) => existsSync(file));
const read = (file: string) => readFileSync(`${INFRA}${file}`, 'utf8');

describe('what is held against the catalogue', () => {
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
  it('are those of their sources', () => {
    expect(readdirSync(`${INFRA}grafana/dashboards`).sort()).toEqual(DASHBOARDS.map(([file]) => file).sort());
    for (const [file, json] of DASHBOARDS)
      expect(read(`grafana/dashboards/${file}`), `npm run docs makes ${file} anew`).toBe(json);
  });

  it.each(DASHBOARDS)(
    '%s: each panel says what it shows, by metrics that exist, in a place of its own',
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

  it.each(alerts)('$alert says what is wrong, by metrics that exist, and where to read on', (rule) => {
    const { alert, expr, labels, annotations } = rule;
    expect(alert).toMatch(/^Nrdot[A-Z]/);
    expect(['critical', 'warning']).toContain(labels.severity);
    expect(annotations.summary).not.toBe('');
    expect(annotations.description).toMatch(/\.$/);
    expect(annotations.runbook_url).toBe(`docs/operations.md#${alert.toLowerCase()}`);
    expect(complaints(expr)).toEqual([]);
  });

  it('have an entry each in the runbook, and it has no others', () => {
    const entries = readFileSync(`${INFRA}../docs/operations.md`, 'utf8').split(/^### /m).slice(1);
    expect(entries.map((entry) => entry.split('\n', 1)[0]).sort()).toEqual([...names].sort());
    for (const entry of entries)
      for (const part of ['Means', 'Look', 'Do', 'Ends']) expect(entry).toContain(`**${part}**`);
  });

  it('have a test each', () => {
    const tests = parse(read('prometheus/alerts.test.yml')).tests as { name: string }[];
    expect(tests.map(({ name }) => name).sort()).toEqual([...names].sort());
  });

  it.skipIf(!promtool)('fire in their tests and not just below (promtool)', () => {
    const check = (...args: string[]) =>
      execFileSync(promtool!, args, { cwd: `${INFRA}prometheus`, encoding: 'utf8', stdio: 'pipe' });
    expect(check('check', 'rules', 'alerts.yml')).toContain(`${names.length} rules found`);
    expect(check('check', 'config', '--syntax-only', 'prometheus.yml')).toContain('SUCCESS');
    expect(check('check', 'config', 'local.yml')).toContain(`SUCCESS: ${names.length} rules found`);
    expect(check('test', 'rules', 'alerts.test.yml')).toContain('SUCCESS');
  });
});

describe('the pages about it', () => {
  const known = new Set<string>([
    ...Object.values(CATALOGUE).map(({ name }) => name),
    ...PROCESS_METRICS.map(([name]) => name),
  ]);
  it.each(['operations', 'tuning', 'troubleshooting', 'scaling', 'limiter'])(
    '%s.md speaks of metrics that exist',
    (page) => {
      const text = readFileSync(`${INFRA}../docs/${page}.md`, 'utf8');
      const said = [
        ...text.matchAll(/`((?:receiver|cl|apq|exporter|dlq|pipeline|process|nodejs)_\w+)(?:\{[^`]*)?`/g),
      ];
      expect(said.length).toBeGreaterThan(3);
      for (const [, name = ''] of said) expect([...known], `${page}.md`).toContain(name);
    },
  );

  it('show queries that can be asked', () => {
    const text = readFileSync(`${INFRA}../docs/tuning.md`, 'utf8');
    const queries = [...text.matchAll(/`(sum\([^`]*)`/g)].map(([, query = '']) => query);
    expect(queries.length).toBeGreaterThan(3);
    for (const query of queries) expect(complaints(query), query).toEqual([]);
  });
});
