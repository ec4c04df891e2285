import { CATALOGUE, type MetricSpec, PROCESS_METRICS, type Service } from './catalogue.ts';
import { labelValues } from './label-values.ts';

const SECTIONS: [Service, string][] = [
  ['receiver', 'Receiver and limiter'],
  ['scheduler', 'Scheduler'],
  ['exporter', 'Exporter'],
  ['dlq', 'DLQ'],
  ['every', 'Every service'],
];

const AS_OTLP = [
  '## Without Prometheus',
  '',
  'With `telemetry.otlp` every process sends the metrics on this page as OTLP, once per `interval`:',
  '',
  '```yaml',
  'telemetry:',
  '  otlp:',
  '    endpoint: pipeline    # its own receiver; or a base URL, with headers',
  '```',
  '',
  '- Names and labels are those of this page. Counters and histograms are cumulative, or deltas with `temporality: delta`, which the preset',
  '  `newrelic` sets. `/metrics` remains available.',
  '- The resource has `service.name` (`nrdot` for all services in one process, otherwise for example `nrdot-exporter`), `service.namespace` (`nrdot`),',
  '  `service.instance.id` (host and process id), `service.version`, `host.name`, `process.pid`, `telemetry.sdk.*`. `attributes` adds others. If you run several',
  '  pipelines, set `service.namespace`.',
  '- With `endpoint: pipeline` they go through the receiver of the process, or the one at `receiver.listen`, with the first of',
  '  `receiver.tokens`, in the class `high`. They are as durable as all other data. Services on machines without a receiver need the URL of one.',
  '- Points sent through the pipeline count like any others: in the accounting, in `receiver_items_total{signal="metrics"}`, and in the limiter,',
  '  where each process has as many key-sets as series, at most about 700 with all services in one. Traffic does not add any: the label values are those below.',
  '- Only one request is in flight at a time, for at most 10 s, and none is retried: data that was not accepted is in the next one, deltas',
  '  included. A lost response can count a delta twice. If the endpoint is down, one line is logged, and',
  '  `pipeline_telemetry_requests_total{outcome="retry"}` counts it.',
  '- Requests to another endpoint use the proxy of the environment. Redirects are handled as in [upstream.md](upstream.md): `headers` are sent',
  '  to another port of the same host, but to no other host.',
  '- A process that stops sends once more, within 2 s.',
  '- As deltas, a series starts with its first count; one marked ∗ starts with the counts after the start of its process: sum it over time per',
  '  instance, and take the maximum.',
  '- CPU: 6 ms per request of 640 points, or about 15 ms with the reads of a scrape and the sending: 0.3 ms a second at an interval of 60 s. The',
  '  first request after the start takes 50 to 80 ms (`node shared/service/bench/own-metrics.bench.ts`).',
];

/** Generates docs/metrics.md. */
export function metricsReference(): string {
  const lines = [
    '# Metrics',
    '',
    'Every service publishes these on `/metrics` of its admin address; `nrdot up` publishes all of them on one.',
    'This page is generated from `shared/telemetry/src/catalogue.ts` by `npm run docs`.',
    '',
    'For a metric marked ∗ every instance reports the same total, read from Redis: take its `max`, never its `sum`.',
    '[operations.md](operations.md) says which one to use when; dashboards and alerts are in `infra/grafana` and',
    '`infra/prometheus`.',
  ];
  lines.push('', ...AS_OTLP);
  for (const [service, title] of SECTIONS) {
    lines.push('', `## ${title}`, '', '| metric | type | labels | meaning |', '| --- | --- | --- | --- |');
    for (const metric of Object.values<MetricSpec>(CATALOGUE)) {
      if (metric.service !== service) continue;
      const labels = metric.labels.map((label) => `\`${label}\``).join(', ') || '—';
      lines.push(
        `| \`${metric.name}\`${metric.whole ? ' ∗' : ''} | ${metric.type} | ${labels} | ${metric.help} |`,
      );
    }
  }
  lines.push(
    '',
    "In addition there are Node's own, `process_*` and `nodejs_*`. The most useful ones:",
    '',
    '| metric | labels | meaning |',
    '| --- | --- | --- |',
    ...PROCESS_METRICS.map(
      ([name, labels, help]) =>
        `| \`${name}\` | ${labels.map((label) => `\`${label}\``).join(', ') || '—'} | ${help} |`,
    ),
    '',
    '## Values of labels',
    '',
    'Nothing that a client sends becomes a label value, except the names of the metrics with the most series, truncated to 120 characters.',
    '',
    '| label | of | values |',
    '| --- | --- | --- |',
    ...labelRows(),
  );
  return `${lines.join('\n')}\n`;
}

function labelRows(): string[] {
  const rows = new Map<string, string[]>();
  for (const { name, labels } of Object.values<MetricSpec>(CATALOGUE)) {
    for (const label of labels) {
      const values = labelValues(name, label).map((value) => `\`${value}\``);
      const row = `| \`${label}\` | % | ${values.join(', ')} |`;
      rows.set(row, [...(rows.get(row) ?? []), `\`${name}\``]);
    }
  }
  return [...rows].map(([row, names]) => row.replace('%', names.length > 3 ? 'many' : names.join(', ')));
}
