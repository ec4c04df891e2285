/** Dashboards and alerts speak of metrics that exist, and the committed files are those that the sources make. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DASHBOARDS } from '../../infra/grafana/source/index.ts';
import { complaints } from './promql.ts';

const INFRA = fileURLToPath(new URL('../../infra/', import.meta.url));
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
