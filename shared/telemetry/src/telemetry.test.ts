import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  asText,
  CATALOGUE,
  createLogger,
  type MetricSpec,
  MetricsRegistry,
  metricsReference,
} from './index.ts';

describe('metrics', () => {
  it('of a process are those of its services', async () => {
    const registry = new MetricsRegistry(['receiver']);
    registry.metrics.receiverItems.inc({ signal: 'traces' }, 5);
    registry.metrics.apqFillRatio.set(0.5); // another service's: it may be set, it is not shown
    const text = await registry.text();
    expect(text).toContain('receiver_items_total{signal="traces"} 5');
    expect(text).not.toContain('apq_fill_ratio');
    expect(text).toContain('nodejs_gc_duration_seconds');
    expect(await registry.sum('receiver_items_total')).toBe(5);
  });

  it('are asked for at each scrape, and one that fails does not keep the others', async () => {
    const registry = new MetricsRegistry(['scheduler']);
    registry.onScrape(() => Promise.reject(new Error('Redis is away')));
    registry.onScrape(() => registry.metrics.apqFillRatio.set(0.25));
    expect(await registry.text()).toContain('apq_fill_ratio 0.25');
  });

  it('have names by the rules, help, and stay where dashboards look for them', () => {
    for (const { name, type, help } of Object.values<MetricSpec>(CATALOGUE)) {
      expect(name).toMatch(/^(receiver|cl|apq|exporter|dlq|pipeline)_[a-z_]+$/);
      if (type === 'counter') expect(name).toMatch(/_total$/);
      expect(help).toMatch(/\.$/);
    }
    const names = Object.values<MetricSpec>(CATALOGUE).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const fixed of [
      'cl_keys_used',
      'cl_dropped_samples_total',
      'apq_fill_ratio',
      'apq_class_size',
      'apq_spill_total',
      'dlq_utilization_ratio',
      'dlq_oldest_age_seconds',
      'dlq_corrupted_total',
    ]) {
      expect(names).toContain(fixed);
    }
  });

  it('are documented in full', () => {
    expect(readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8')).toBe(
      metricsReference(),
    );
  });
});

describe('the log', () => {
  it('is JSON for machines and one line for people, and a line break cannot forge another', () => {
    const lines: string[] = [];
    const write = (line: string) => void lines.push(line);
    createLogger({ level: 'info', format: 'json', write }).info({ service: 'dlq', said: 'a\nb' }, 'stored');
    createLogger({ level: 'info', format: 'text', write }).warn({ service: 'dlq', said: 'a\nb' }, 'stored');
    createLogger({ level: 'error', format: 'text', write }).warn('not severe enough');
    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: 'info',
      service: 'dlq',
      said: 'a\nb',
      msg: 'stored',
    });
    expect(lines[1]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} warn {2}dlq {7}stored {2}said="a\\nb"\n$/);
    expect(asText('not JSON\n')).toBe('not JSON\n');
  });
});
