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
  '`telemetry.otlp` has every process send what is on this page as OTLP metrics once per `interval`, by itself:',
  '',
  '```yaml',
  'telemetry:',
  '  otlp:',
  '    endpoint: pipeline    # its own receiver; or a base URL, with headers',
  '```',
  '',
  '- Names and labels are those of this page. Counters and histograms are cumulative; deltas with `temporality: delta`, as with the preset',
  '  `newrelic`. `/metrics` goes on beside it.',
  '- The resource has `service.name` (`nrdot` for all services in one process, else such as `nrdot-exporter`), `service.namespace` (`nrdot`),',
  '  `service.instance.id` (host and process id), `service.version`, `host.name`, `process.pid`, `telemetry.sdk.*`. `attributes` adds others: with more than one pipeline set',
  '  `service.namespace`.',
  '- With `endpoint: pipeline` it goes through the receiver of the process, or the one at `receiver.listen`, with the first of',
  "  `receiver.tokens`, in the class `high`: it is as durable as everything else. Services on other machines than a receiver's need its URL.",
  '- Through the pipeline its points are items as any others: in the books, in `receiver_items_total{signal="metrics"}`, and in the limiter,',
  '  where each process has as many key-sets as series, some 700 at most with all services in one. They grow with no traffic: their labels have the values below.',
  '- One request is out at a time, for 10 s at most, and none is repeated: what was not taken is in the next one, deltas included. An',
  '  answer that is lost can count a delta twice. An endpoint that is away costs one line in the log and `pipeline_telemetry_requests_total{outcome="retry"}`.',
  '- To an endpoint of its own it goes by the proxy of the environment, and after a redirect as [upstream.md](upstream.md) says: `headers` go along',
  '  to another port of the same host, and to no other host.',
  '- When a process stops it sends once more, within 2 s.',
  '- As deltas, a series begins with its first count, and one marked ∗ with what comes after the start of its process: sum it over time for',
  '  each instance, and take the maximum of these.',
  '- CPU: 6 ms per request of 640 points, with what a scrape reads and the way out some 15 ms: 0.3 ms a second at 60 s. The first one after the start',
  '  takes 50 to 80 ms (`node shared/service/bench/own-metrics.bench.ts`).',
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
    '[operations.md](operations.md) says which to use when; dashboards and alerts are in `infra/grafana` and',
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
    'Nothing that a client sends becomes a label value, except the names of the metrics with the most series, cut to 120 characters.',
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
