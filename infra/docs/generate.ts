/** Writes the files that are generated from the code. Tests check that they are up to date. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { configurationReference, exampleFile } from '@nrdot/config';
import { metricsReference } from '@nrdot/telemetry';
import { createProgram } from '../../cli/src/main.ts';
import { commandReference } from '../../cli/src/reference.ts';
import { alertConditions } from '../alerts/new-relic.ts';
import { alertRules } from '../alerts/prometheus.ts';
import { DASHBOARDS, NEW_RELIC_DASHBOARD } from '../dashboards/index.ts';
import { chartReadme, chartSchema, exampleNames, findHelm, render, withAlerts } from '../helm/chart.ts';

const root = new URL('../../', import.meta.url);
const helm = findHelm();
if (!helm)
  console.log(
    'helm is not on the PATH: in infra/helm/rendered only the alert rules are brought up to date. After a change to the chart, run this again with helm.',
  );
// The schema comes before the manifests, since helm reads it.
writeFileSync(new URL('infra/helm/nrdot-plus/values.schema.json', root), chartSchema());
for (const dir of ['infra/helm/rendered', 'infra/helm/nrdot-plus/files', 'infra/newrelic/dashboards'])
  mkdirSync(new URL(dir, root), { recursive: true });
for (const [file, text] of [
  ['docs/configuration.md', configurationReference()],
  ['docs/metrics.md', metricsReference()],
  ['docs/cli.md', commandReference(createProgram())],
  ['nrdot.example.yaml', exampleFile()],
  ['infra/helm/nrdot-plus/README.md', chartReadme()],
  ['infra/prometheus/alerts.yml', alertRules()],
  // Helm reads only files in the chart.
  ['infra/helm/nrdot-plus/files/alerts.yml', alertRules()],
  ['infra/newrelic/alerts.json', alertConditions()],
  ...DASHBOARDS.map(([file, json]) => [`infra/grafana/dashboards/${file}`, json] as const),
  [`infra/newrelic/dashboards/${NEW_RELIC_DASHBOARD[0]}`, NEW_RELIC_DASHBOARD[1]],
  ...exampleNames().map((name) => {
    const manifests = helm ? render(helm, name) : withAlerts(name, alertRules());
    return [`infra/helm/rendered/${name}.yaml`, manifests] as const;
  }),
] as const) {
  writeFileSync(new URL(file, root), text);
  console.log(`wrote ${file}`);
}
