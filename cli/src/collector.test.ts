import { loadConfig } from '@nrdot/config';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { translate } from './collector.ts';

const COLLECTOR = `
receivers:
  otlp:
    protocols:
      grpc: { endpoint: 0.0.0.0:4317 }
      http:
        endpoint: 0.0.0.0:4318
        cors: { allowed_origins: ["https://shop.example"], max_age: 7200 }
        include_metadata: true
  hostmetrics: {}
processors:
  batch: { timeout: 5s }
  attributes: {}
exporters:
  debug: {}
  otlphttp/other: { endpoint: https://other.example }
  otlphttp:
    endpoint: https://otlp.nr-data.net
    logs_endpoint: https://logs.example/v1/logs
    headers: { api-key: "\${NEW_RELIC_LICENSE_KEY}", x-team: $TEAM }
    timeout: 1m30s
    compression: gzip
    tls: { ca_file: /etc/ca.pem, insecure: false }
    sending_queue: { enabled: true, num_consumers: 20, queue_size: 5000, storage: file_storage }
    retry_on_failure: { enabled: true, initial_interval: 500ms, max_interval: 30s, max_elapsed_time: 300s }
extensions: { file_storage: {} }
service:
  telemetry: {}
  pipelines:
    traces: { receivers: [otlp], exporters: [otlphttp] }
`;

describe("a Collector's file", () => {
  const { config, notes } = translate(COLLECTOR);

  it('is translated: receivers, exporters, headers, TLS, queue and retry', () => {
    expect(config).toEqual({
      receiver: {
        listen: '0.0.0.0:4318',
        cors: { allowed_origins: ['https://shop.example'], max_age: '7200s' },
      },
      exporter: {
        endpoint: 'https://otlp.nr-data.net',
        endpoints: { logs: 'https://logs.example/v1/logs' },
        headers: { 'api-key': '${env:NEW_RELIC_LICENSE_KEY}', 'x-team': '${env:TEAM}' },
        timeout: '90s',
        compression: 'gzip',
        tls: { ca_file: '/etc/ca.pem' },
        concurrency: 20,
        retry: { initial: '500ms', max: '30s' },
      },
    });
  });

  it('becomes a valid configuration', () => {
    const env = { NEW_RELIC_LICENSE_KEY: 'secret', TEAM: 'shop' };
    expect(loadConfig({ text: stringify(config), env }).config.exporter.timeoutMs).toBe(90_000);
  });

  it('is reported where it has no counterpart', () => {
    expect(notes.map((note) => note.split(':')[0])).toEqual([
      'receivers.otlp.protocols.grpc',
      'receivers.otlp.protocols.http.include_metadata',
      'receivers.hostmetrics',
      'processors.batch',
      'processors.attributes',
      'exporters.debug',
      'exporters.otlphttp/other',
      'exporters.otlphttp.sending_queue.queue_size',
      'exporters.otlphttp.sending_queue.storage',
      'exporters.otlphttp.retry_on_failure.max_elapsed_time',
      'extensions.file_storage',
      'service.telemetry',
    ]);
  });

  it('is rejected if it is something else', () => {
    expect(() => translate('queue: { max_bytes: 1GiB }')).toThrow(/not a Collector configuration/);
    expect(() => translate('')).toThrow(/not a Collector configuration/);
  });
});
