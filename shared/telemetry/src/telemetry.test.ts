import { readFileSync } from 'node:fs';
import { waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import {
  asText,
  CATALOGUE,
  createLogger,
  labelSets,
  labelValues,
  type MetricSpec,
  MetricsRegistry,
  metricsReference,
  PROCESS_METRICS,
} from './index.ts';

describe('metrics', () => {
  it('of a process include those of its services', async () => {
    const registry = new MetricsRegistry(['receiver']);
    registry.metrics.receiverItems.inc({ signal: 'traces' }, 5);
    registry.metrics.apqFillRatio.set(0.5); // another service's: it may be set, it is not shown
    const text = await registry.text();
    expect(text).toContain('receiver_items_total{signal="traces"} 5');
    expect(text).not.toContain('apq_fill_ratio');
    expect(text).toContain('nodejs_gc_duration_seconds');
  });

  it('are collected at each scrape, and one that fails does not affect the others', async () => {
    const registry = new MetricsRegistry(['scheduler']);
    registry.onScrape(() => Promise.reject(new Error('Redis is away')));
    registry.onScrape(() => registry.metrics.apqFillRatio.set(0.25));
    expect(await registry.text()).toContain('apq_fill_ratio 0.25');
  });

  it('have valid names and help, and keep the names that dashboards use', () => {
    for (const { name, type, help } of Object.values<MetricSpec>(CATALOGUE)) {
      expect(name).toMatch(/^(receiver|cl|check|apq|exporter|dlq|pipeline)_[a-z_]+$/);
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

  it('have labels with known values, and counters that exist before they count', async () => {
    const registry = new MetricsRegistry(['receiver', 'scheduler', 'exporter', 'dlq']);
    const text = await registry.text();
    for (const { name, type, labels, whole } of Object.values<MetricSpec>(CATALOGUE)) {
      for (const label of labels) expect(labelValues(name, label), `${name} ${label}`).not.toEqual([]);
      if (type !== 'counter') continue;
      const sets = labelSets(name, labels);
      // What follows a count kept in Redis appears when that is known: a jump from 0 would look like an event.
      if (sets && !(whole && labels.length > 0)) expect(text).toMatch(new RegExp(`^${name}[{ ]`, 'm'));
      if (whole && labels.length > 0) expect(text).not.toMatch(new RegExp(`^${name}[{ ]`, 'm'));
      expect((sets ?? []).length).toBeLessThan(100);
    }
  });

  it('of Node that are documented exist', async () => {
    const text = await new MetricsRegistry([]).text();
    for (const [name] of PROCESS_METRICS) expect(text).toMatch(new RegExp(`^# TYPE ${name} `, 'm'));
  });

  it('report event loop lag without the sampling interval', async () => {
    const registry = new MetricsRegistry([]);
    const most = async () =>
      Number(/^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(await registry.text())?.[1]);
    // Between two looks of its own, which it needs to know the time between them.
    const heldUp = async () => {
      for (let times = 0; times < 3; times++) {
        const until = performance.now() + 250;
        while (performance.now() < until);
        // The turn of the loop in which its timers are due comes after this one.
        for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
      }
      return (await most()) > 0.1;
    };
    await waitUntil(heldUp, { what: 'the loop was held up' });
    const onTime = async () => {
      const lag = await most();
      return lag > 0 && lag < 0.09;
    };
    await waitUntil(onTime, { what: 'the loop was on time, but for a little', everyMs: 250 });
  });

  it('are fully documented', () => {
    expect(readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8')).toBe(
      metricsReference(),
    );
  });
});

describe('the log', () => {
  it('is JSON for machines and one line for people, and line breaks cannot forge another line', () => {
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
