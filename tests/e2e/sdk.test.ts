/** Real clients: what the OpenTelemetry SDK sends is what arrives, field by field. */
import { fromBinary, toJson } from '@bufbuild/protobuf';
import { startMockUpstream, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { context, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter as JsonLogs } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogs } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as JsonMetrics } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetrics } from '@opentelemetry/exporter-metrics-otlp-proto';
import { OTLPTraceExporter as JsonTraces } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraces } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { referenceRequest } from '../../shared/otlp/test/reference.ts';
import { type Running, startOne } from '../kit.ts';

// biome-ignore lint/suspicious/noExplicitAny: decoded messages, looked into field by field
type Json = any;

const resource = resourceFromAttributes({
  'service.name': 'checkout',
  'host.cpus': 8,
  'deployment.canary': true,
});
const ATTRIBUTES = {
  text: 'München “quoted” 🚀',
  empty: '',
  whole: 9007199254740991,
  negative: -42,
  real: 0.1,
  flag: false,
  list: ['a', 'b'],
  numbers: [1, 2.5],
};

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let running: Running;
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0', keep: 50 });
  running = await startOne(dir.path, mock);
});
afterAll(async () => {
  await running[Symbol.asyncDispose]();
  await mock.close();
  dir[Symbol.dispose]();
});

/** What arrived at a path, decoded by the reference parser. */
async function arrived(signal: 'traces' | 'metrics' | 'logs'): Promise<Json> {
  const kept = await waitUntil(() => mock.kept().find(({ path }) => path === `/v1/${signal}`), {
    what: `${signal} arrived`,
  });
  expect(kept.headers['content-type']).toBe('application/x-protobuf');
  const schema = referenceRequest(signal);
  return toJson(schema, fromBinary(schema, kept.body)) as Json;
}

const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex');
const attributesOf = (list: Json) =>
  Object.fromEntries(list.map(({ key, value }: { key: string; value: unknown }) => [key, value]));
const EXPECTED = {
  text: { stringValue: ATTRIBUTES.text },
  empty: { stringValue: '' },
  whole: { intValue: '9007199254740991' },
  negative: { intValue: '-42' },
  real: { doubleValue: 0.1 },
  flag: { boolValue: false },
  list: { arrayValue: { values: [{ stringValue: 'a' }, { stringValue: 'b' }] } },
  numbers: { arrayValue: { values: [{ intValue: '1' }, { doubleValue: 2.5 }] } },
};

for (const format of ['proto', 'json'] as const) {
  const options = (signal: string, compression: 'gzip' | 'none' = 'gzip') =>
    ({ url: `${running.otlp}/v1/${signal}`, compression }) as never;

  describe(`an OpenTelemetry SDK that sends ${format}`, () => {
    it('has its spans delivered, field by field', async () => {
      mock.reset();
      const Exporter = format === 'proto' ? ProtoTraces : JsonTraces;
      const provider = new TracerProvider({
        resource,
        spanProcessors: [new BatchSpanProcessor({ exporter: new Exporter(options('traces')) } as never)],
      });
      const tracer = provider.getTracer('checkout-lib', '1.2.3');
      const linked = {
        traceId: '5b8efff798038103d269b633813fc60c',
        spanId: 'eee19b7ec3c1b174',
        traceFlags: TraceFlags.SAMPLED,
      };
      const span = tracer.startSpan('GET /cart', {
        kind: SpanKind.SERVER,
        attributes: ATTRIBUTES,
        links: [{ context: linked, attributes: { why: 'retry' } }],
        startTime: [1_700_000_000, 123_456_789],
      });
      span.addEvent('cache.miss', { key: 'cart:1' }, [1_700_000_000, 200_000_000]);
      span.setStatus({ code: SpanStatusCode.ERROR, message: 'no stock' });
      const child = tracer.startSpan('SELECT', {}, trace.setSpan(context.active(), span));
      child.end();
      span.end([1_700_000_001, 987_654_321]);
      const { traceId, spanId } = span.spanContext();
      await provider.shutdown();

      const [found] = (await arrived('traces')).resourceSpans!;
      expect(attributesOf(found!.resource!.attributes!)).toMatchObject({
        'service.name': { stringValue: 'checkout' },
        'host.cpus': { intValue: '8' },
        'deployment.canary': { boolValue: true },
      });
      expect(found!.scopeSpans![0]!.scope).toMatchObject({ name: 'checkout-lib', version: '1.2.3' });
      const spans = found!.scopeSpans![0]!.spans!;
      const got = spans.find(({ name }: { name: string }) => name === 'GET /cart')!;
      expect(hex(got.traceId!)).toBe(traceId);
      expect(hex(got.spanId!)).toBe(spanId);
      expect(got).toMatchObject({
        kind: 2,
        startTimeUnixNano: '1700000000123456789',
        endTimeUnixNano: '1700000001987654321',
        status: { code: 2, message: 'no stock' },
      });
      expect(attributesOf(got.attributes!)).toEqual(EXPECTED);
      expect(got.events![0]).toMatchObject({ name: 'cache.miss', timeUnixNano: '1700000000200000000' });
      expect(hex(got.links![0]!.traceId!)).toBe(linked.traceId);
      expect(hex(got.links![0]!.spanId!)).toBe(linked.spanId);
      const parent = spans.find(({ name }: { name: string }) => name === 'SELECT')!.parentSpanId!;
      expect(hex(parent)).toBe(spanId);
    });

    it('has its metrics delivered, field by field', async () => {
      mock.reset();
      const Exporter = format === 'proto' ? ProtoMetrics : JsonMetrics;
      const reader = new PeriodicExportingMetricReader({
        exporter: new Exporter(options('metrics')) as never,
        exportIntervalMillis: 60_000,
      });
      const provider = new MeterProvider({ resource, readers: [reader] });
      const meter = provider.getMeter('checkout-meter');
      meter
        .createCounter('orders', { unit: '{order}', description: 'Orders placed' })
        .add(9_007_199_254_740_991, { shop: 'a' });
      const histogram = meter.createHistogram('latency', {
        unit: 'ms',
        advice: { explicitBucketBoundaries: [10, 100] },
      });
      for (const value of [5, 50, 500]) histogram.record(value, { route: '/' });
      meter.createObservableGauge('temperature').addCallback((result) => result.observe(-3.25));
      await provider.shutdown();

      const [found] = (await arrived('metrics')).resourceMetrics!;
      const metrics = Object.fromEntries(
        found!.scopeMetrics![0]!.metrics!.map((metric: { name: string }) => [metric.name, metric]),
      ) as Record<string, Json>;
      expect(metrics.orders).toMatchObject({
        unit: '{order}',
        description: 'Orders placed',
        sum: { isMonotonic: true, aggregationTemporality: 2 },
      });
      const [orders] = metrics.orders!.sum!.dataPoints!;
      expect(Number(orders!.asInt ?? orders!.asDouble)).toBe(9_007_199_254_740_991);
      expect(attributesOf(orders!.attributes!)).toEqual({ shop: { stringValue: 'a' } });
      expect(metrics.latency!.histogram!.dataPoints![0]).toMatchObject({
        count: '3',
        sum: 555,
        min: 5,
        max: 500,
        bucketCounts: ['1', '1', '1'],
        explicitBounds: [10, 100],
      });
      expect(metrics.temperature!.gauge!.dataPoints![0]).toMatchObject({ asDouble: -3.25 });
    });

    it('has its log records delivered, field by field', async () => {
      mock.reset();
      const Exporter = format === 'proto' ? ProtoLogs : JsonLogs;
      const provider = new LoggerProvider({
        resource,
        processors: [
          new BatchLogRecordProcessor({ exporter: new Exporter(options('logs', 'none')) } as never),
        ],
      });
      const linked = {
        traceId: '5b8efff798038103d269b633813fc60c',
        spanId: 'eee19b7ec3c1b174',
        traceFlags: TraceFlags.SAMPLED,
      };
      provider.getLogger('checkout-log').emit({
        severityNumber: SeverityNumber.ERROR,
        severityText: 'ERROR',
        body: { reason: 'no stock', list: [1, 'two'] },
        attributes: ATTRIBUTES,
        timestamp: [1_700_000_000, 123_456_789],
        context: trace.setSpanContext(context.active(), linked),
      });
      await provider.shutdown();

      const [found] = (await arrived('logs')).resourceLogs!;
      const [record] = found!.scopeLogs![0]!.logRecords!;
      expect(record).toMatchObject({
        severityNumber: 17,
        severityText: 'ERROR',
        timeUnixNano: '1700000000123456789',
      });
      expect(attributesOf(record!.attributes!)).toEqual(EXPECTED);
      expect(attributesOf(record!.body!.kvlistValue!.values!)).toEqual({
        reason: { stringValue: 'no stock' },
        list: { arrayValue: { values: [{ intValue: '1' }, { stringValue: 'two' }] } },
      });
      expect(hex(record!.traceId!)).toBe(linked.traceId);
      expect(hex(record!.spanId!)).toBe(linked.spanId);
    });
  });
}
