/** The alerts as Prometheus rules: `infra/prometheus/alerts.yml`. */
import { ALERTS, type Alert } from './alerts.ts';

const HEAD = `# Generated from infra/alerts/alerts.ts by "npm run docs"; edit that.
# What a person on call is told. Severity critical: act now; warning: look today. Each has its entry in docs/operations.md.
# Names of scrape jobs are expected to contain "nrdot". Everything is grouped by job and namespace: one pipeline each.
groups:
  - name: nrdot
    rules:
`;

export function alertRules(): string {
  const sections = Object.entries(ALERTS).map(([title, alerts]) =>
    [`      # ${title}`, ...alerts.map(rule)].join('\n'),
  );
  return `${HEAD}${sections.join('\n\n')}\n`;
}

/** Link to the section about the alert. */
export function runbookOf({ name }: Alert): string {
  return `docs/operations.md#${name.toLowerCase()}`;
}

function rule(alert: Alert): string {
  const { name, comment, promql, severity, summary, description } = alert;
  const lines = promql.split('\n');
  return [
    `      - alert: ${name}`,
    ...(comment ? [`        # ${comment}`] : []),
    ...(lines.length === 1
      ? [`        expr: ${promql}`]
      : ['        expr: |-', ...lines.map((line) => `          ${line}`)]),
    ...(alert.for ? [`        for: ${alert.for}`] : []),
    `        labels: { severity: ${severity} }`,
    '        annotations:',
    `          summary: ${quoted(summary)}`,
    `          description: ${quoted(description)}`,
    `          runbook_url: ${runbookOf(alert)}`,
  ].join('\n');
}

/** As a YAML string in single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
