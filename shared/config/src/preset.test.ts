import { describe, expect, it } from 'vitest';
import { type ConfigError, loadConfig } from './index.ts';

const load = (text: string, overrides = {}) => loadConfig({ text, file: 'nrdot.yaml', env: {}, overrides });
const bytes = (text: string, overrides = {}) => load(text, overrides).config.exporter.maxRequestBytes;

describe('exporter.preset', () => {
  it.each([
    'https://otlp.nr-data.net',
    'https://otlp.eu01.nr-data.net:4318',
    'https://gov-otlp.nr-data.net/',
    'https://OTLP.NR-DATA.NET.',
  ])('auto is newrelic for %s', (endpoint) => {
    const { config, explain } = load(`exporter: {endpoint: "${endpoint}"}`);
    expect(config.exporter).toMatchObject({
      maxRequestBytes: 950_000,
      maxAgeMs: { metrics: 48 * 3_600_000, logs: 48 * 3_600_000 },
      retryOn: [500, 530],
    });
    expect(config.limiter.protectedLabels).toContain('service.name');
    expect(config.limiter).toMatchObject({ dailyKeys: 100_000, dailyMode: 'observe' });
    expect(config.exporter.accountLimits).toEqual({
      ...{ requestsPerMinute: 100_000, pointsPerMinute: 3_000_000 },
      ...{ recordsPerMinute: 55_000_000, bytesPerMinute: 10_000_000_000 },
    });
    expect(config.check).toEqual({ sample: 0.02, fix: false });
    const from = (path: string) => explain().find((setting) => setting.path === path)!.source;
    expect(from('exporter.max_request_bytes')).toBe('preset newrelic');
    expect(from('limiter.protected_labels')).toBe('preset newrelic');
    expect(from('exporter.timeout')).toBe('default');
  });

  it.each([
    'https://nr-data.net.example.com',
    'https://example.com/otlp.nr-data.net',
    'https://evilnr-data.net',
    'http://127.0.0.1:4318',
  ])('auto is none for %s', (endpoint) => {
    expect(bytes(`exporter: {endpoint: "${endpoint}"}`)).toBeUndefined();
  });

  it('auto considers the endpoints of single signals, and flags', () => {
    const logs =
      'exporter: {endpoint: "http://collector:4318", endpoints: {logs: "https://otlp.nr-data.net/v1/logs"}}';
    expect(bytes(logs)).toBe(950_000);
    expect(bytes('', { 'exporter.endpoint': 'https://otlp.nr-data.net' })).toBe(950_000);
  });

  it('auto sets no maximum age for a signal with another upstream, which may accept older data', () => {
    const ages = (more: string) =>
      load(
        `exporter: {endpoint: "http://collector:4318", endpoints: {logs: "https://otlp.nr-data.net/v1/logs"}${more}}`,
      ).config.exporter.maxAgeMs;
    expect(ages('')).toEqual({ logs: 48 * 3_600_000 });
    expect(ages(', preset: newrelic')).toEqual({ logs: 48 * 3_600_000, metrics: 48 * 3_600_000 });
  });

  it('sends its own metrics as deltas, even if only these go to New Relic', () => {
    const temporality = (exporter: string, telemetry: string) =>
      load(`exporter: {endpoint: "${exporter}"}\ntelemetry: {otlp: ${telemetry}}`).config.telemetry.otlp
        .temporality;
    const [newRelic, other] = ['https://otlp.nr-data.net', 'http://collector:4318'];
    expect(temporality(newRelic, '{endpoint: pipeline}')).toBe('delta');
    expect(temporality(newRelic, '{temporality: cumulative}')).toBe('cumulative');
    expect(temporality(other, '{endpoint: pipeline}')).toBe('cumulative');
    expect(temporality(other, `{endpoint: "${newRelic}"}`)).toBe('delta');
    expect(bytes(`telemetry: {otlp: {endpoint: "${newRelic}"}}`)).toBeUndefined();
    expect(() => load(`telemetry: {otlp: 5}`)).toThrow('telemetry.otlp');
  });

  it('newrelic and none apply whatever the host', () => {
    expect(bytes('exporter: {endpoint: "http://gateway:4318", preset: newrelic}')).toBe(950_000);
    expect(bytes('exporter: {endpoint: "https://otlp.nr-data.net", preset: none}')).toBeUndefined();
  });

  it('explicit options take precedence', () => {
    const { config, explain } = load(
      [
        'exporter:',
        '  endpoint: https://otlp.nr-data.net',
        '  max_request_bytes: 500KiB',
        '  max_age: {logs: 30d}',
        '  retry_on: []',
        'limiter:',
        '  aggregate_labels: [host.name]',
      ].join('\n'),
    );
    expect(config.exporter.maxRequestBytes).toBe(500 * 1024);
    expect(config.exporter.maxAgeMs.logs).toBe(30 * 24 * 3_600_000);
    expect(config.exporter.maxAgeMs.metrics).toBe(48 * 3_600_000);
    expect(config.exporter.retryOn).toEqual([]);
    expect(config.limiter.protectedLabels).not.toContain('host.name');
    expect(config.limiter.protectedLabels).toContain('host.id');
    const from = (path: string) => explain().find((setting) => setting.path === path)!.source;
    expect(from('exporter.max_request_bytes')).toBe('nrdot.yaml:3');
  });

  it('an invalid preset, section or endpoint is still rejected', () => {
    const refused = (text: string) => {
      try {
        load(text);
      } catch (error) {
        return (error as ConfigError).message;
      }
      return '';
    };
    expect(refused('exporter: {preset: datadog}')).toContain('one of auto, none, newrelic');
    expect(refused('exporter: {endpoint: 7, preset: newrelic, max_age: 48h}')).toContain('exporter.max_age');
    expect(refused('exporter: {preset: newrelic}\nlimiter: [a]')).toContain('limiter');
  });
});
