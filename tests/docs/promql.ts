/** What a PromQL expression speaks of, found without a parser: enough for expressions in the style of ours. */
import { CATALOGUE, type MetricSpec, PROCESS_METRICS } from '@nrdot/telemetry';

/** Labels that Prometheus and our scrape configurations add. */
const ADDED = ['job', 'instance', 'namespace', 'service'];
const WORDS = new Set(['and', 'or', 'unless', 'bool', 'offset', 'inf', 'nan']);

const METRICS = new Map<string, { labels: readonly string[]; whole: boolean }>([
  ['up', { labels: ADDED, whole: false }],
  ...Object.values<MetricSpec>(CATALOGUE).flatMap((spec) =>
    series(spec.name, spec.labels, spec.type === 'histogram', spec.whole),
  ),
  ...PROCESS_METRICS.flatMap(([name, labels]) => series(name, labels, name.startsWith('nodejs_gc'))),
]);

function series(name: string, labels: readonly string[], histogram: boolean, whole = false) {
  const all = [...labels, ...ADDED];
  if (!histogram) return [[name, { labels: all, whole }] as const];
  return ['_bucket', '_sum', '_count'].map(
    (part) => [name + part, { labels: part === '_bucket' ? [...all, 'le'] : all, whole }] as const,
  );
}

/** What is wrong with an expression by the catalogue: metrics and labels that do not exist, sums of what every instance shows. */
export function complaints(expr: string): string[] {
  const found: string[] = [];
  const groups = [...expr.matchAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g)];
  const bare = expr
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replace(/\[[^\]]*\]/g, ' ');
  const known = new Set<string>(ADDED);
  // Selectors: a name that is not called, with or without matchers.
  for (const [, name = '', braces = ''] of bare.matchAll(/(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?/g)) {
    if (braces === '(' || WORDS.has(name)) continue;
    const metric = METRICS.get(name);
    if (!metric) {
      found.push(`${name} is no metric`);
      continue;
    }
    for (const label of metric.labels) known.add(label);
    for (const [, label = ''] of braces.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      if (!metric.labels.includes(label)) found.push(`${name} has no label ${label}`);
  }
  for (const [, labels = ''] of groups)
    for (const label of labels
      .split(',')
      .map((word) => word.trim())
      .filter(Boolean))
      if (!known.has(label)) found.push(`${label} is no label of what is grouped`);
  // Every scheduler shows the whole: a sum over instances would count it once for each.
  for (const [, name = ''] of bare.matchAll(/\bsum\s*\(\s*(?:\w+\s*\(\s*)?([a-z]\w*)/g))
    if (METRICS.get(name)?.whole) found.push(`sum of ${name}, which every instance shows the whole of`);
  return found;
}
