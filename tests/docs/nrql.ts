/** What an NRQL query speaks of, found without a parser: enough for queries in the style of ours. */
import { CATALOGUE, type MetricSpec, type MetricType, PROCESS_METRICS } from '@nrdot/telemetry';

/** What the resource of the metrics adds, and what New Relic has of each point. */
const ATTRIBUTES = ['service.namespace', 'service.name', 'service.instance.id', 'metricName', 'timestamp'];
const KEYWORDS = new Set(
  'SELECT FROM Metric WHERE AND OR NOT IN LIKE AS FACET LIMIT MAX TIMESERIES SINCE ago value'.split(' '),
);
const UNITS = new Set(['second', 'minutes', 'hour', 'hours']);

/** How a metric of each type may be asked for: what else would be the sum of levels, or the level of a count since a minute ago. */
const FUNCTIONS: Readonly<Record<MetricType, readonly string[]>> = {
  counter: ['sum'],
  gauge: ['latest', 'average', 'max', 'min', 'predictLinear'],
  histogram: ['percentile', 'count', 'sum'],
};
const OTHER_FUNCTIONS = ['filter', 'rate', 'abs', 'uniqueCount', 'count', 'max', 'sum', 'min'];

const METRICS = new Map<string, { type: MetricType; labels: readonly string[] }>([
  ...Object.values<MetricSpec>(CATALOGUE).map((spec) => [spec.name, spec] as const),
  ...PROCESS_METRICS.map(([name, labels]) => {
    const type = name.endsWith('_total') ? 'counter' : name.includes('_gc_') ? 'histogram' : 'gauge';
    return [name, { type, labels }] as const;
  }),
]);

/** What is wrong with a query by the catalogue. */
export function nrqlComplaints(query: string): string[] {
  const found: string[] = [];
  const named = [...query.matchAll(/metricName (?:= |IN \()((?:'\w+'(?:, )?)+)/g)].flatMap(
    ([, names = '']) => names.match(/\w+/g)!,
  );
  for (const name of named) if (!METRICS.has(name)) found.push(`${name} is no metric`);
  if (named.length === 0) found.push('it names no metric');
  const bare = query.replace(/'[^']*'/g, "''");
  const labels = new Set(named.flatMap((name) => METRICS.get(name)?.labels ?? []));
  const used = new Set<string>();
  for (const [word] of bare.matchAll(/[A-Za-z][\w.]*/g)) {
    const metric = METRICS.get(word);
    if (metric) used.add(word);
    const isKnown =
      metric ||
      named.includes(word) ||
      KEYWORDS.has(word) ||
      UNITS.has(word) ||
      labels.has(word) ||
      ATTRIBUTES.includes(word);
    if (!isKnown && !bare.includes(`${word}(`)) found.push(`${word} is no attribute of ${named.join(', ')}`);
  }
  for (const [, called = '', argument = ''] of bare.matchAll(/(\w+)\(([\w.]*)/g)) {
    const metric = METRICS.get(argument);
    const allowed = metric ? FUNCTIONS[metric.type] : OTHER_FUNCTIONS;
    if (called !== 'IN' && !allowed.includes(called) && called !== 'FROM')
      found.push(`${called} of ${argument || 'an expression'}${metric ? `, a ${metric.type}` : ''}`);
  }
  for (const name of used) if (!named.includes(name)) found.push(`${name} is not in metricName`);
  return found;
}
