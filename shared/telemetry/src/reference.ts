import { CATALOGUE, type MetricSpec, type Service } from './catalogue.ts';

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
    "Beside them stand Node's own: `process_*` and `nodejs_*` (RSS, CPU, event-loop lag, `nodejs_gc_duration_seconds`).",
  ];
  for (const [service, title] of SECTIONS) {
    lines.push('', `## ${title}`, '', '| metric | type | labels | meaning |', '| --- | --- | --- | --- |');
    for (const metric of Object.values<MetricSpec>(CATALOGUE)) {
      if (metric.service !== service) continue;
      const labels = metric.labels.map((label) => `\`${label}\``).join(', ') || '—';
      lines.push(`| \`${metric.name}\` | ${metric.type} | ${labels} | ${metric.help} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}
