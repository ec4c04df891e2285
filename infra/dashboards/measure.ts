/**
 * The query of a panel, for both systems: PromQL for Prometheus, and NRQL for New Relic, which gets the same metrics as OTLP
 * (`telemetry.otlp`) with the preset `newrelic`. There counters and histograms are deltas, so they are summed; a gauge is one
 * value per minute.
 */
import { CATALOGUE, type MetricSpec, PROCESS_METRICS } from '@nrdot/telemetry';

export interface Measure {
  promql: string;
  /** Or why there is none. */
  nrql: Nrql | string;
}

/** Parts of a query over `Metric`. */
export interface Nrql {
  select: string;
  where?: string;
  facet?: readonly string[];
  /** How to aggregate the selected value of each instance and combination of these labels. */
  over?: 'sum' | 'max' | 'min';
  each?: readonly string[];
  /** For a single number: the start of its range; defaults to the displayed one. */
  since?: string;
}

/** Labels and their values; `!value` for any other value. */
type Where = Readonly<Record<string, string>>;
interface Of {
  where?: Where;
  by?: readonly string[];
}
/** `each`: one series per instance. */
type Over = 'sum' | 'max' | 'min' | 'each';

/** Start of the range for current values: every process has reported by then, at an interval of a minute. */
export const NOW = '3 minutes ago';

const INSTANCE = 'service.instance.id';
const SPECS = new Map(Object.values<MetricSpec>(CATALOGUE).map((spec) => [spec.name, spec]));
const NAMES = new Set<string>([...SPECS.keys(), ...PROCESS_METRICS.map(([name]) => name)]);
const isWhole = (name: string) => SPECS.get(name)?.whole === true;

/** A gauge. */
export function level(over: Over, gauge: string, of: Of = {}): Measure {
  const { where = {}, by = [] } = of;
  const parts = partsOf(over, of);
  // Without labels in the query, the latest value would be that of one of the series.
  const each = (SPECS.get(gauge)?.labels ?? []).filter(
    (label) => !by.includes(label) && (where[label] ?? '!').startsWith('!'),
  );
  const isOne = over === 'each' || (isWhole(gauge) && each.length === 0);
  const nrql = isOne
    ? { ...parts, select: `latest(${gauge})` }
    : over === 'sum'
      ? { ...parts, select: `latest(${gauge})`, over, ...(each.length > 0 ? { each } : {}) }
      : { ...parts, select: `${over}(${gauge})` };
  return { promql: aggregated(over, by, gauge + braces(of)), nrql: { ...nrql, since: NOW } };
}

/** Rate of a counter per second. */
export function perSecond(over: Over, counter: string, of: Of = {}): Measure {
  return {
    promql: aggregated(over, of.by, `rate(${counter}${braces(of)}[$__rate_interval])`),
    nrql: { ...counted(over, counter, `rate(sum(${counter}), 1 second)`, of), since: NOW },
  };
}

/** Growth of a counter: in the displayed range, or in each step of a line. */
export function counts(
  over: Over,
  counter: string,
  range: '$__range' | '$__rate_interval',
  of: Of = {},
): Measure {
  return {
    promql: aggregated(over, of.by, `increase(${counter}${braces(of)}[${range}])`),
    nrql: counted(over, counter, `sum(${counter})`, of),
  };
}

/** Total of a counter since its process started; in New Relic, which has deltas, in the displayed range. */
export function total(over: Over, counter: string, of: Of = {}): Measure {
  return {
    promql: aggregated(over, of.by, counter + braces(of)),
    nrql: counted(over, counter, `sum(${counter})`, of),
  };
}

/** A percentile of one of the product's histograms. */
export function quantile(q: number, histogram: string, of: Of = {}): Measure {
  const by = ['le', ...(of.by ?? [])];
  const rate = aggregated('sum', by, `rate(${histogram}_bucket${braces(of)}[$__rate_interval])`);
  return {
    promql: `histogram_quantile(${q}, ${rate})`,
    nrql: { ...partsOf('sum', of), select: `percentile(${histogram}, ${q * 100})` },
  };
}

/** Two lines: its median, and the 99th percentile. */
export function percentiles(histogram: string): Record<string, Measure> {
  return { '50 %': quantile(0.5, histogram), '99 %': quantile(0.99, histogram) };
}

/** Rate of observations of a histogram, or of their sum. */
export function observed(what: 'count' | 'sum', histogram: string, of: Pick<Of, 'by'>): Measure {
  return {
    promql: aggregated('sum', of.by, `rate(${histogram}_${what}[$__rate_interval])`),
    nrql: { ...partsOf('sum', of), select: `rate(${what}(${histogram}), 1 second)` },
  };
}

/** A quotient. NRQL divides unnested values: instances have the same weights on both sides. */
export function ratio(over: Over, of: string, by: string): Measure {
  const [above, below] = [level(over, of), level(over, by)];
  const select = over === 'each' ? 'latest' : over === 'sum' ? 'average' : over;
  return {
    promql: `${above.promql} / ${below.promql}`,
    nrql: { ...partsOf(over, {}), select: `${select}(${of}) / ${select}(${by})`, since: NOW },
  };
}

/**
 * Text of a query.
 * @param alias name of the value, in the legend
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

/** Restricts to these metrics: others with the same labels would become facets without a value. */
function ofMetrics(select: string, where = ''): string {
  if (where.includes('metricName')) return '';
  const names = [...new Set(select.match(/[a-z]\w+/g)?.filter((word) => NAMES.has(word)))];
  const quoted = names.map((name) => `'${name}'`);
  return quoted.length === 1 ? `metricName = ${quoted[0]}` : `metricName IN (${quoted.join(', ')})`;
}

/** Name of a label in New Relic: labels that Prometheus adds are resource attributes there. */
export function attributeOf(label: string): string {
  return { instance: INSTANCE, service: 'service.name', job: 'service.namespace' }[label] ?? label;
}

/** For a total that every instance reports, all report the same deltas. */
function counted(over: Over, counter: string, select: string, of: Of): Nrql {
  return { ...partsOf(over, of), select, ...(isWhole(counter) ? { over: 'max' } : {}) };
}

function partsOf(over: Over, { where, by = [] }: Of): Omit<Nrql, 'select'> {
  const facet = [...(over === 'each' ? ['service', 'instance'] : []), ...by].map(attributeOf);
  return {
    ...(where ? { where: matchers(where, ' = ', ' != ', "'").join(' AND ') } : {}),
    ...(facet.length > 0 ? { facet } : {}),
  };
}

function braces({ where }: Of): string {
  return where ? `{${matchers(where, '=', '!=', '"').join(', ')}}` : '';
}

function matchers(where: Where, is: string, isNot: string, quote: string): string[] {
  return Object.entries(where).map(([label, value]) =>
    value.startsWith('!')
      ? `${label}${isNot}${quote}${value.slice(1)}${quote}`
      : `${label}${is}${quote}${value}${quote}`,
  );
}

function aggregated(over: Over, by: readonly string[] = [], inner: string): string {
  if (over === 'each') return inner;
  return by.length > 0 ? `${over} by (${by.join(', ')}) (${inner})` : `${over}(${inner})`;
}
