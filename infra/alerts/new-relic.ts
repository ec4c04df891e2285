/** The alerts as New Relic conditions: `infra/newrelic/alerts.json`, which the Terraform module there applies. */
import { attributeOf, nrqlText } from '../dashboards/measure.ts';
import { ALERTS, type Alert, type Condition } from './alerts.ts';
import { runbookOf } from './prometheus.ts';

const PIPELINE = 'service.namespace';
/** After so long without data a series, and its incident, is closed. */
const GONE_SECONDS = 7_200;

export function alertConditions(): string {
  const conditions = Object.values(ALERTS)
    .flat()
    .flatMap((alert) => (typeof alert.newRelic === 'string' ? [] : [conditionOf(alert, alert.newRelic)]));
  return `${JSON.stringify(conditions, null, 2)}\n`;
}

function conditionOf(alert: Alert, condition: Condition): object {
  const { above = 0, below, windowSeconds, forSeconds = windowSeconds, lostAfterSeconds } = condition;
  const facet = [PIPELINE, ...(condition.facet ?? [])];
  const runbook = runbookOf(alert);
  return {
    name: alert.name,
    severity: alert.severity,
    description: `${tagged(alert.summary)}. ${runbook}`,
    runbook,
    // Conditions have no limit of facets that could be raised.
    query: nrqlText({ ...condition, facet }).replaceAll(' LIMIT MAX', ''),
    operator: below === undefined ? 'above' : 'below',
    threshold: below ?? above,
    threshold_duration: forSeconds,
    aggregation_window: windowSeconds,
    slide_by: condition.slideSeconds ?? null,
    expiration_duration: lostAfterSeconds ?? GONE_SECONDS,
    open_violation_on_expiration: lostAfterSeconds !== undefined,
  };
}

/** Labels in Prometheus templates are tags in New Relic's. */
function tagged(text: string): string {
  return text.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, label: string) => `{{tags.${attributeOf(label)}}}`);
}
