import { isIP } from 'node:net';

/** Values of options for one kind of upstream, by dotted path, as written in the file. */
type PresetValues = Readonly<Record<string, unknown>>;

export const PRESETS = ['auto', 'none', 'newrelic'] as const;
type ActivePreset = Exclude<(typeof PRESETS)[number], 'auto'>;

/** Resource attributes from which New Relic creates entities. */
export const NEW_RELIC_ENTITY_LABELS: readonly string[] = [
  ...['service.name', 'host.id', 'host.name', 'container.id'],
  ...['entity.guid', 'entity.name', 'entity.type'],
];

/** Requirements of New Relic's OTLP endpoint; docs/new-relic.md gives reasons and sources. */
const NEW_RELIC: PresetValues = {
  // Below 10^6, with room for what a proxy adds.
  'exporter.max_request_bytes': 950_000,
  // Older data is dropped despite a 200: better to count it here.
  'exporter.max_age.metrics': '48h',
  'exporter.max_age.logs': '48h',
  // Answers of its network vendor to temporary failures.
  'exporter.retry_on': [500, 530],
  'check.sample': 0.02,
  // Cumulative metrics cost more ingest.
  'telemetry.otlp.temporality': 'delta',
  // The lowest documented limit; accounts may have more.
  'exporter.account_limits.requests_per_minute': 100_000,
  'exporter.account_limits.points_per_minute': 3_000_000,
  'exporter.account_limits.records_per_minute': 55_000_000,
  'exporter.account_limits.bytes_per_minute': 10_000_000_000,
  // With more series of a metric, roll-ups stop until midnight UTC.
  'limiter.daily_keys': 100_000,
  // New Relic creates entities from them.
  'limiter.protected_labels': NEW_RELIC_ENTITY_LABELS,
};

/** The United States, the European Union, and FedRAMP, also with a custom name in front. */
const NEW_RELIC_DOMAIN = /(^|\.)nr-data\.net$/;

/**
 * The active preset.
 * @param wanted value of `exporter.preset`; an unknown one is rejected elsewhere and counts as none here
 * @param urls the signals' endpoints
 */
export function presetFor(wanted: unknown, urls: readonly unknown[]): ActivePreset {
  if (wanted === 'newrelic') return wanted;
  if (wanted !== undefined && wanted !== 'auto') return 'none';
  return urls.some(isNewRelic) ? 'newrelic' : 'none';
}

export function presetValues(name: ActivePreset): PresetValues {
  return name === 'newrelic' ? NEW_RELIC : {};
}

export function isNewRelic(url: unknown): boolean {
  if (typeof url !== 'string' || !URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  return isIP(hostname) === 0 && NEW_RELIC_DOMAIN.test(hostname.toLowerCase().replace(/\.$/, ''));
}
