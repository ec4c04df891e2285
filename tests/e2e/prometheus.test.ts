/** A real Prometheus over a run with a storm, refusals, an outage and replay: every panel and every alert has an answer. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  freePort,
  generate,
  type MockUpstream,
  Process,
  startMockUpstream,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DASHBOARDS } from '../../infra/dashboards/index.ts';
import { accounting, type Running, startOne, startServices, untilQuiet } from '../kit.ts';

const ALERTS = fileURLToPath(new URL('../../infra/prometheus/alerts.yml', import.meta.url));
const prometheus = (process.env.PATH ?? '')
  .split(':')
  .map((dir) => join(dir, 'prometheus'))
  .find((file) => existsSync(file));

const SCRAPE_S = 1;
/** What Grafana puts in for its variables. */
const VARIABLES = { $job: '.*', $__rate_interval: '4s', $__range: '5m' };
const LIMITS = {
  limiter: { max_keys: 4_096, critical_action: 'drop', daily_keys: 100_000 },
  dlq: { replay_rate: '64MiB' },
  exporter: { account_limits: { requests_per_minute: 100_000_000, bytes_per_minute: '1TB' } },
};
const LOAD = {
  rate: 3_000,
  batchSize: 50,
  signals: { traces: 2, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
  connections: 4,
} as const;
/** Says nothing before it has seen more of a day than a test lasts. */
const AFTER_LONG = 'cl_daily_keys_forecast';
const STORM = {
  rate: 0,
  batchSize: 1_000,
  signals: { metrics: 1 },
  metricKinds: { sum: 1 },
  items: 20_000,
  cardinality: 20_000,
} as const;

let dir: ReturnType<typeof temporaryDirectory>;
let mock: MockUpstream;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
});
afterEach(async () => {
  await mock.close();
  dir[Symbol.dispose]();
});

interface Result {
  metric: Record<string, string>;
  values: [number, string][];
}

class Prometheus {
  readonly #process: Process;
  readonly #url: string;
  readonly #startedAt = Date.now() / 1000;

  private constructor(process: Process, url: string) {
    this.#process = process;
    this.#url = url;
  }

  static async start(path: string, targets: string[]): Promise<Prometheus> {
    const port = await freePort();
    const config = {
      global: { scrape_interval: `${SCRAPE_S}s`, scrape_timeout: `${SCRAPE_S}s`, evaluation_interval: '1s' },
      rule_files: [ALERTS],
      scrape_configs: [{ job_name: 'nrdot', static_configs: [{ targets }] }],
    };
    const file = join(path, 'prometheus.yml');
    writeFileSync(file, JSON.stringify(config)); // JSON is YAML
    const args = [`--config.file=${file}`, `--storage.tsdb.path=${join(path, 'prometheus')}`];
    const url = `http://127.0.0.1:${port}`;
    const started = new Prometheus(
      new Process('prometheus', prometheus!, [...args, `--web.listen-address=127.0.0.1:${port}`], {}, path),
      url,
    );
    const ready = () => fetch(`${url}/-/ready`).then(({ ok }) => ok);
    await waitUntil(() => ready().catch(() => false), { what: 'Prometheus is ready' });
    return started;
  }

  async get(path: string, query: Record<string, string> = {}): Promise<unknown> {
    const response = await fetch(`${this.#url}/api/v1/${path}?${new URLSearchParams(query)}`);
    const answer = (await response.json()) as { status: string; data: unknown; error?: string };
    expect(answer.status, `${query.query}: ${answer.error}`).toBe('success');
    return answer.data;
  }

  /** The whole run so far, as a panel asks for it. */
  async range(query: string): Promise<Result[]> {
    const [start, end] = [String(this.#startedAt), String(Date.now() / 1000)];
    const data = await this.get('query_range', { query, start, end, step: String(SCRAPE_S) });
    return (data as { result: Result[] }).result;
  }

  async now(query: string): Promise<number | undefined> {
    const { result } = (await this.get('query', { query })) as { result: { value: [number, string] }[] };
    return result[0] && Number(result[0].value[1]);
  }

  /** Waits until a query gives something. */
  async until(query: string): Promise<void> {
    await waitUntil(async () => (await this.now(query)) !== undefined, { what: query, everyMs: 200 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}

function filled(expr: string): string {
  return Object.entries(VARIABLES).reduce((text, [name, value]) => text.replaceAll(name, value), expr);
}

/**
 * An alert's expression with an answer also when nothing is wrong: comparisons give 0 or 1, what is absent is asked for, and
 * what would silence it does not.
 */
function answering(expr: string): string {
  return expr
    .replace(/(?<=\s)(>|<|==) /g, '$1 bool ')
    .replace(/absent\((\w+)\)/g, '$1')
    .replace(/\bunless\b/g, 'or');
}

/** This pipeline has no certificate that could expire. */
const WITH_TLS = 'NrdotCertificateExpires';

const hasValue = (results: Result[]) =>
  results.some(({ values }) => values.some(([, value]) => Number.isFinite(Number(value))));

/** Everything that a pipeline goes through, with a Prometheus looking on. */
async function story(running: Running, watcher: Prometheus): Promise<void> {
  await watcher.until('up == 1');
  await generate({ ...LOAD, endpoint: running.otlp, items: 6_000 });
  await generate({ ...STORM, endpoint: running.otlp });
  await untilQuiet(running.admin); // what is refused next is to be what is sent next
  mock.set({ refuseRate: 1 });
  await generate({ ...LOAD, signals: { traces: 1 }, endpoint: running.otlp, items: 300 });
  await waitUntil(async () => (await accounting(running.admin)).rejected === 300, {
    what: 'they are rejected',
  });
  mock.set({ refuseRate: 0, outage: true });
  await generate({ ...LOAD, endpoint: running.otlp, items: 6_000 });
  await watcher.until('max(apq_breaker_state{state="open"}) == 1');
  await watcher.until('max(pipeline_accounting_items{state="on_disk"}) > 0');
  mock.set({ outage: false });
  await generate({ ...LOAD, endpoint: running.otlp, items: 6_000 });
  await untilQuiet(running.admin);
  // By now or soon, every scheduler has been seen with nothing left to do.
  const books = (state: string) => `max(abs(pipeline_accounting_items{state="${state}"})) == 0`;
  await watcher.until(`${books('queued')} and ${books('on_disk')} and ${books('difference')}`);
  await watcher.until('min(apq_breaker_state{state="closed"}) == 1');
}

async function everythingAnswers(watcher: Prometheus): Promise<void> {
  expect(await watcher.get('label/job/values', { 'match[]': 'pipeline_build_info' })).toEqual(['nrdot']);
  const empty: string[] = [];
  for (const [file, json] of DASHBOARDS)
    for (const { title, targets = [] } of JSON.parse(json).panels)
      for (const { expr } of targets)
        if (!(expr.includes(AFTER_LONG) || hasValue(await watcher.range(filled(expr)))))
          empty.push(`${file}, ${title}: ${expr}`);
  expect(empty).toEqual([]);
  const rules = parse(readFileSync(ALERTS, 'utf8')).groups[0].rules as { alert: string; expr: string }[];
  for (const { alert, expr } of rules) {
    await watcher.range(expr);
    if (alert === WITH_TLS) continue;
    if (!hasValue(await watcher.range(answering(expr)))) empty.push(`${alert}: ${answering(expr)}`);
  }
  expect(empty).toEqual([]);
  // Prometheus has evaluated them itself all the while.
  const { groups } = (await watcher.get('rules')) as {
    groups: { rules: { name: string; health: string; lastError?: string }[] }[];
  };
  const evaluated = groups.flatMap((group) => group.rules);
  expect(evaluated).toHaveLength(rules.length);
  expect(evaluated.filter(({ health }) => health !== 'ok')).toEqual([]);
}

/** Alerts that were in a state, at least for a moment. */
async function alerts(watcher: Prometheus, state: 'pending' | 'firing'): Promise<string[]> {
  const found = await watcher.range(`count by (alertname) (ALERTS{alertstate="${state}"})`);
  return found.map(({ metric }) => metric.alertname!);
}

const why = prometheus ? '' : ' — left out: prometheus is not here (infra/install/prometheus.sh)';
describe.skipIf(!prometheus)(`a real Prometheus${why}`, () => {
  it('has an answer for every panel and alert on one process', async () => {
    await using running = await startOne(dir.path, mock, LIMITS);
    await using watcher = await Prometheus.start(dir.path, [new URL(running.admin).host]);
    await story(running, watcher);
    await everythingAnswers(watcher);
    for (const [state, reason] of [
      ['open', 'failures'],
      ['half_open', 'time'],
      ['closed', 'probe'],
    ])
      expect(
        await watcher.now(`sum(apq_breaker_transitions_total{state="${state}", reason="${reason}"})`),
      ).toBeGreaterThan(0);
    expect(await alerts(watcher, 'pending')).toContain('NrdotBreakerOpen');
    // Nothing fires but what happened and needs no time to be sure of.
    const firing = await alerts(watcher, 'firing');
    expect(firing).toContain('NrdotRejected');
    expect(firing.filter((name) => name !== 'NrdotRejected')).toEqual([]);
    const now = (await watcher.get('alerts')) as { alerts: { annotations: { description: string } }[] };
    const words = now.alerts.map(({ annotations }) => annotations.description);
    expect(words.join('\n')).toMatch(/^The upstream rejected \d+(\.\d+)? items of nrdot in 15 minutes\.$/m);
  });

  it('counts nothing twice on four services with several instances where possible', async () => {
    await using redis = await TestRedis.start({ dir: dir.path });
    const instances = { receivers: 2, schedulers: 2, exporters: 2 };
    await using running = await startServices(dir.path, redis, mock, LIMITS, instances);
    const targets = await Promise.all(
      Object.values(running.processes).map(async (process) => (await process.line(/"admin":"([^"]+)"/))[1]!),
    );
    await using watcher = await Prometheus.start(dir.path, targets);
    await watcher.until(`count(up == 1) == ${targets.length}`);
    await story(running, watcher);
    await everythingAnswers(watcher);
    const panels = JSON.parse(DASHBOARDS[0]![1]).panels as { title: string; targets: { expr: string }[] }[];
    const shown = (title: string) =>
      watcher.now(filled(panels.find((panel) => panel.title === title)!.targets[0]!.expr));
    const books = await accounting(running.admin);
    expect(await shown('Accepted')).toBe(books.accepted);
    expect(await shown('Delivered')).toBe(books.delivered);
    expect(await shown('Rejected')).toBe(300);
    expect(await shown('Difference')).toBe(0);
    // The shares of the classes are of all that moved, by whichever scheduler.
    expect(await watcher.now('sum(apq_moved_items_total)')).toBeGreaterThanOrEqual(books.delivered);
    expect(await watcher.now('sum(max by (class) (apq_weight_ratio))')).toBeCloseTo(1);
  });
});
