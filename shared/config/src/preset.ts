import { isIP } from 'node:net';

/** Values of options for one kind of upstream, by dotted path, as one would write them. */
type PresetValues = Readonly<Record<string, unknown>>;

export const PRESETS = ['auto', 'none', 'newrelic'] as const;
type PresetName = (typeof PRESETS)[number];

/** Attributes of resources of which New Relic makes entities. */
export const NEW_RELIC_ENTITY_LABELS: readonly string[] = [
  ...['service.name', 'host.id', 'host.name', 'container.id'],
  ...['entity.guid', 'entity.name', 'entity.type'],
];

/** What New Relic's OTLP endpoint demands; docs/new-relic.md says why, and from which of its pages. */
const NEW_RELIC: PresetValues = {
  // Below 10^6, with room for what a proxy adds.
  'exporter.max_request_bytes': 950_000,
  // Older ones are dropped behind a 200: better to count them here.
  'exporter.max_age.metrics': '48h',
  'exporter.max_age.logs': '48h',
  // Its network vendor's answers to passing faults.
  'exporter.retry_on': [500, 530],
  'check.sample': 0.02,
  // Cumulative ones cost more ingest.
  'telemetry.otlp.temporality': 'delta',
  // Of those that its pages give, the lowest: by account they are more.
  'exporter.account_limits.requests_per_minute': 100_000,
  'exporter.account_limits.points_per_minute': 3_000_000,
  'exporter.account_limits.records_per_minute': 55_000_000,
  'exporter.account_limits.bytes_per_minute': 10_000_000_000,
  // Beyond so many series of a metric it stops its roll-ups until midnight UTC.
  'limiter.daily_keys': 100_000,
  // It makes entities of them.
  'limiter.protected_labels': NEW_RELIC_ENTITY_LABELS,
};

/** The United States, the European Union, and FedRAMP; also with a name of one's own before them. */
const NEW_RELIC_DOMAIN = /(^|\.)nr-data\.net$/;

const VALUES: Readonly<Record<Exclude<PresetName, 'auto'>, PresetValues>> = {
  none: {},
  newrelic: NEW_RELIC,
};

/**
 * The preset that is in force.
 * @param wanted the value of `exporter.preset`; what is no preset is refused elsewhere, and is none here
 * @param urls where the signals go
 */
export function presetFor(wanted: unknown, urls: readonly unknown[]): Exclude<PresetName, 'auto'> {
  if (wanted === 'newrelic') return wanted;
  if (wanted !== undefined && wanted !== 'auto') return 'none';
  return urls.some(isNewRelic) ? 'newrelic' : 'none';
}

export function presetValues(name: Exclude<PresetName, 'auto'>): PresetValues {
  return VALUES[name];
}

export function isNewRelic(url: unknown): boolean {
  if (typeof url !== 'string' || !URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  return isIP(hostname) === 0 && NEW_RELIC_DOMAIN.test(hostname.toLowerCase().replace(/\.$/, ''));
}
