/**
 * What a panel shows, once for both: as PromQL for Prometheus, and as NRQL for New Relic, which gets the same metrics as OTLP
 * (`telemetry.otlp`) with the preset `newrelic`. There a counter or histogram is a delta, so it is summed; a gauge is a value each minute.
 */
import { CATALOGUE, type MetricSpec, PROCESS_METRICS } from '@nrdot/telemetry';

export interface Measure {
  promql: string;
  /** Or why it has none. */
  nrql: Nrql | Untranslated;
}

/** The parts of a query over `Metric`. */
export interface Nrql {
  select: string;
  where?: string;
  facet?: readonly string[];
  /** What is selected is so for each instance, and each value of these labels; this is made of all of them. */
  over?: 'sum' | 'max' | 'min';
  each?: readonly string[];
  /** Of one number: since when; the range shown where it is absent. */
  since?: string;
}

export interface Untranslated {
  reason: string;
}

/** Labels and their values; `!value` for any other. */
type Where = Readonly<Record<string, string>>;
interface Of {
  where?: Where;
  by?: readonly string[];
}
/** `each`: every instance by itself. */
type Over = 'sum' | 'max' | 'min' | 'each';

/** What is so now: every process has told it by then, at an interval of a minute. */
export const NOW = '3 minutes ago';

const INSTANCE = 'service.instance.id';
const SPECS = new Map(Object.values<MetricSpec>(CATALOGUE).map((spec) => [spec.name, spec]));
const NAMES = new Set<string>([...SPECS.keys(), ...PROCESS_METRICS.map(([name]) => name)]);
const isWhole = (name: string) => SPECS.get(name)?.whole === true;

/** A gauge as it is. */
export function level(over: Over, gauge: string, { where, by = [] }: Of = {}): Measure {
  const parts = partsOf(over, by, where);
  // Labels that the query leaves open: the latest value is of one of their series.
  const each = (SPECS.get(gauge)?.labels ?? []).filter(
    (label) => !by.includes(label) && (where?.[label] ?? '!').startsWith('!'),
  );
  const isOne = over === 'each' || (isWhole(gauge) && each.length === 0);
  const nrql = isOne
    ? { ...parts, select: `latest(${gauge})` }
    : over === 'sum'
      ? { ...parts, select: `latest(${gauge})`, over, ...(each.length > 0 ? { each } : {}) }
      : { ...parts, select: `${over}(${gauge})` };
  return { promql: aggregated(over, by, gauge + braces(where)), nrql: { ...nrql, since: NOW } };
}

/** What a counter counts in a second. */
export function perSecond(over: Over, counter: string, { where, by = [] }: Of = {}): Measure {
  return {
    promql: aggregated(over, by, `rate(${counter}${braces(where)}[$__rate_interval])`),
    nrql: { ...counted(over, counter, `rate(sum(${counter}), 1 second)`, by, where), since: NOW },
  };
}

/** What a counter counted: in the range shown, or in each step of a line. */
export function counts(
  over: Over,
  counter: string,
  range: '$__range' | '$__rate_interval',
  { where, by = [] }: Of = {},
): Measure {
  return {
    promql: aggregated(over, by, `increase(${counter}${braces(where)}[${range}])`),
    nrql: counted(over, counter, `sum(${counter})`, by, where),
  };
}

/** What a counter has counted: since its process started; in New Relic, which has its deltas, in the range shown. */
export function total(over: Over, counter: string, { where, by = [] }: Of = {}): Measure {
  return {
    promql: aggregated(over, by, counter + braces(where)),
    nrql: counted(over, counter, `sum(${counter})`, by, where),
  };
}

/** A percentile of a histogram of ours. */
export function quantile(q: number, histogram: string, { where, by = [] }: Of = {}): Measure {
  return {
    promql: `histogram_quantile(${q}, sum by (${['le', ...by].join(', ')}) (rate(${histogram}_bucket${braces(where)}[$__rate_interval])))`,
    nrql: { ...partsOf('sum', by, where), select: `percentile(${histogram}, ${q * 100})` },
  };
}

/** How often a histogram was added to in a second, or what its values come to. */
export function observed(
  what: 'count' | 'sum',
  histogram: string,
  { by = [] }: Pick<Of, 'by'> = {},
): Measure {
  return {
    promql: aggregated('sum', by, `rate(${histogram}_${what}[$__rate_interval])`),
    nrql: { ...partsOf('sum', by, undefined), select: `rate(${what}(${histogram}), 1 second)` },
  };
}

/** One by the other. NRQL divides what is not nested: the parts of each instance weigh the same on both sides. */
export function ratio(over: Over, of: string, by: string): Measure {
  const [above, below] = [level(over, of), level(over, by)];
  const select = over === 'each' ? 'latest' : over === 'sum' ? 'average' : over;
  return {
    promql: `${above.promql} / ${below.promql}`,
    nrql: { ...partsOf(over, [], undefined), select: `${select}(${of}) / ${select}(${by})`, since: NOW },
  };
}

/** What neither of these says. */
export function written(promql: string, nrql: Nrql | Untranslated): Measure {
  return { promql, nrql };
}

export function isTranslated(nrql: Nrql | Untranslated): nrql is Nrql {
  return 'select' in nrql;
}

/**
 * The text of a query.
 * @param alias the name of the value, in the legend
 * @param overTime whether it is a line
 */
export function nrqlText(
  { select, where, facet = [], over, each = [], since }: Nrql,
  { alias = '', overTime = false, scale = 1 } = {},
): string {
  const as = alias === '' ? '' : ` AS '${alias.replaceAll("'", '’')}'`;
  const times = scale === 1 ? '' : ` * ${scale}`;
  const from = `FROM Metric WHERE ${[ofMetrics(select, where), where].filter(Boolean).join(' AND ')}`;
  const series = overTime ? ' TIMESERIES' : '';
  const end = !overTime && since ? ` SINCE ${since}` : '';
  const byFacet = (names: readonly string[]) =>
    names.length > 0 ? ` FACET ${names.join(', ')} LIMIT MAX` : '';
  if (!over) {
    const whole = times === '' ? select : `(${select})${times}`;
    return `SELECT ${whole}${as} ${from}${byFacet(facet)}${series}${end}`;
  }
  const parts = `SELECT ${select} AS value ${from}${byFacet([INSTANCE, ...facet, ...each])}${series}`;
  return `SELECT ${over}(value)${times}${as} FROM (${parts})${byFacet(facet)}${series}${end}`;
}

/** Other metrics have labels of the same names, and would be facets without a value. */
function ofMetrics(select: string, where = ''): string {
  if (where.includes('metricName')) return '';
  const names = [...new Set(select.match(/[a-z]\w+/g)?.filter((word) => NAMES.has(word)))];
  const quoted = names.map((name) => `'${name}'`);
  return quoted.length === 1 ? `metricName = ${quoted[0]}` : `metricName IN (${quoted.join(', ')})`;
}

/** The name of a label in New Relic: what Prometheus adds, the resource has there. */
export function attributeOf(label: string): string {
  return { instance: INSTANCE, service: 'service.name', job: 'service.namespace' }[label] ?? label;
}

/** Of a count that every instance shows the whole of, each tells the same deltas. */
function counted(
  over: Over,
  counter: string,
  select: string,
  by: readonly string[],
  where: Where | undefined,
): Nrql {
  const parts = partsOf(over, by, where);
  return isWhole(counter) ? { ...parts, select, over: 'max' } : { ...parts, select };
}

function partsOf(over: Over, by: readonly string[], where: Where | undefined): Omit<Nrql, 'select'> {
  const facet = [...(over === 'each' ? ['service', 'instance'] : []), ...by].map(attributeOf);
  return {
    ...(where ? { where: condition(where) } : {}),
    ...(facet.length > 0 ? { facet } : {}),
  };
}

function condition(where: Where): string {
  return Object.entries(where)
    .map(([label, value]) =>
      value.startsWith('!') ? `${label} != '${value.slice(1)}'` : `${label} = '${value}'`,
    )
    .join(' AND ');
}

function braces(where: Where | undefined): string {
  if (!where) return '';
  const matchers = Object.entries(where).map(([label, value]) =>
    value.startsWith('!') ? `${label}!="${value.slice(1)}"` : `${label}="${value}"`,
  );
  return `{${matchers.join(', ')}}`;
}

function aggregated(over: Over, by: readonly string[], inner: string): string {
  if (over === 'each') return inner;
  return by.length > 0 ? `${over} by (${by.join(', ')}) (${inner})` : `${over}(${inner})`;
}
