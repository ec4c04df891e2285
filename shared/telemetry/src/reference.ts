import { CATALOGUE, type MetricSpec, PROCESS_METRICS, type Service } from './catalogue.ts';
import { labelValues } from './label-values.ts';

const SECTIONS: [Service, string][] = [
  ['receiver', 'Receiver and limiter'],
  ['scheduler', 'Scheduler'],
  ['exporter', 'Exporter'],
  ['dlq', 'DLQ'],
  ['every', 'Every service'],
];

/** The text of docs/metrics.md. */
export function metricsReference(): string {
  const lines = [
    '# Metrics',
    '',
    'Every service publishes these on `/metrics` of its admin address; `nrdot up` publishes all of them on one.',
    'This page is generated from `shared/telemetry/src/catalogue.ts` by `npm run docs`.',
    '',
    'Of a metric marked ∗ every instance shows the same whole, read from Redis: take `max` of it, never `sum`.',
    '[operations.md](operations.md) says which to look at when; dashboards and alerts are in `infra/grafana` and',
    '`infra/prometheus`.',
  ];
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
    "Beside them stand Node's own, `process_*` and `nodejs_*`. Those to know:",
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
    'Nothing that a client sends becomes the value of a label.',
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
