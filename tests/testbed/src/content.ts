/**
 * What generated telemetry looks like: requests shaped and sized like those of instrumented web services, about 300
 * bytes an item, as plain messages with slots where items differ.
 */

import type { Message, Value } from './encoder.ts';
import { Slot } from './encoder.ts';
import {
  ID_ATTRIBUTE,
  PRIORITY_ATTRIBUTE,
  seededRandom,
  type TestClass,
  type TestSignal,
} from './identity.ts';
import { METRIC_KINDS, type MetricKind } from './workload.ts';

const SERVICES = ['checkout', 'cart', 'catalogue', 'payments', 'search', 'shipping', 'accounts', 'frontend'];
const ROUTES = [
  '/api/v1/orders',
  '/api/v1/orders/{orderId}/lines',
  '/api/v2/products/{productId}',
  '/api/v1/users/{userId}/addresses',
  '/healthz',
  '/graphql',
  '/api/v1/payments/authorise',
];
const METHODS = ['GET', 'POST', 'PUT', 'DELETE'];
const TABLES = ['orders', 'order_lines', 'products', 'addresses', 'payments'];
const LOG_TEXTS = [
  'request finished',
  'cache miss, asking the database for the product list of this category',
  'retrying the payment provider after a time-out of 2000 ms, attempt 2 of 5',
  'user signed in with a one-time password',
  'could not reserve stock for the order: the warehouse answered 409, will be tried again by the nightly job',
];
const SEVERITY = { critical: 17, high: 13, normal: 9, none: 9 } as const;
const SEVERITY_TEXT: Record<number, string> = { 17: 'ERROR', 13: 'WARN', 9: 'INFO' };

export interface ContentOptions {
  signal: TestSignal;
  class: TestClass | undefined;
  items: number;
  seed: number;
  metricIds: boolean;
  metricIdAttribute: boolean;
  metricKinds: Partial<Record<MetricKind, number>>;
}

export interface Content {
  request: Message;
  /** For metrics: the kind of each point, in the order in which points are written. */
  kinds: MetricKind[];
}

/** One export request of `items` items. Items are spread over up to four resources, all of one class. */
export function content(options: ContentOptions): Content {
  const random = seededRandom(options.seed);
  if (options.signal === 'metrics') return metricsContent(options);
  const groups = Math.max(1, Math.min(4, Math.floor(options.items / 50)));
  const resources: Message[] = [];
  for (let group = 0; group < groups; group += 1) {
    const from = Math.floor((options.items * group) / groups);
    const to = Math.floor((options.items * (group + 1)) / groups);
    const service = pick(SERVICES, random);
    const scope = { name: `io.shop.${service}`, version: '1.4.2' };
    const items = Array.from({ length: to - from }, () =>
      options.signal === 'traces' ? span(random, options.class) : logRecord(random, options.class),
    );
    const resource = resourceOf(service, options.class, group);
    resources.push(
      options.signal === 'traces'
        ? { resource, scopeSpans: [{ scope, spans: items }] }
        : { resource, scopeLogs: [{ scope, logRecords: items }] },
    );
  }
  const field = options.signal === 'traces' ? 'resourceSpans' : 'resourceLogs';
  return { request: { [field]: resources }, kinds: [] };
}

function resourceOf(service: string, cls: TestClass | undefined, group: number): Message {
  const attributes = [
    text('service.name', service),
    text('service.namespace', 'shop'),
    text('service.version', '2.17.0'),
    text('deployment.environment.name', 'production'),
    text('host.name', `node-${group}.eu-west.shop.internal`),
    text('k8s.pod.name', `${service}-6d5f8c7b9-x${group}k2p`),
    text('telemetry.sdk.language', 'nodejs'),
    integer('process.pid', 4000 + group),
  ];
  if (cls !== undefined) attributes.push(text(PRIORITY_ATTRIBUTE, cls));
  return { attributes };
}

function span(random: () => number, cls: TestClass | undefined): Message {
  const ids = {
    traceId: new Slot('traceId'),
    spanId: new Slot('spanId'),
    startTimeUnixNano: new Slot('startTime'),
    endTimeUnixNano: new Slot('sendTime'),
  };
  const failed = cls === 'critical' && random() < 0.5;
  const ending: Message = failed ? { status: { message: 'upstream timed out', code: 2 } } : {};
  if (random() < 0.4) {
    const table = pick(TABLES, random);
    return {
      ...ids,
      parentSpanId: new Slot('parentSpanId'),
      name: `SELECT ${table}`,
      kind: 3,
      attributes: [
        text('db.system.name', 'postgresql'),
        text('db.namespace', 'shop'),
        text(
          'db.query.text',
          `SELECT * FROM ${table} WHERE id = $1 AND tenant = $2 ORDER BY created_at LIMIT 50`,
        ),
        text('server.address', 'db-primary.shop.internal'),
        integer('server.port', 5432),
        { key: 'session.id', value: { stringValue: new Slot('uid', 'session-') } },
      ],
      ...ending,
    };
  }
  const method = pick(METHODS, random);
  const route = pick(ROUTES, random);
  return {
    ...ids,
    ...(random() < 0.8 ? { parentSpanId: new Slot('parentSpanId') } : {}),
    name: `${method} ${route}`,
    kind: 2,
    attributes: [
      text('http.request.method', method),
      text('http.route', route),
      text('url.scheme', 'https'),
      text('server.address', 'shop.example.com'),
      text('user_agent.original', 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101'),
      { key: 'http.response.status_code', value: { intValue: new Slot('status') } },
      { key: 'client.address', value: { stringValue: new Slot('host', '10.4.') } },
      { key: 'session.id', value: { stringValue: new Slot('uid', 'session-') } },
    ],
    ...ending,
  };
}

function logRecord(random: () => number, cls: TestClass | undefined): Message {
  const severity = SEVERITY[cls ?? 'none'];
  return {
    timeUnixNano: new Slot('startTime'),
    severityNumber: severity,
    severityText: SEVERITY_TEXT[severity],
    body: { stringValue: pick(LOG_TEXTS, random) },
    attributes: [
      text('code.function.name', 'handleRequest'),
      text('thread.name', `worker-${Math.floor(random() * 16)}`),
      text('http.route', pick(ROUTES, random)),
      { key: 'session.id', value: { stringValue: new Slot('uid', 'session-') } },
      { key: ID_ATTRIBUTE, value: { stringValue: new Slot('readableId') } },
    ],
    flags: 1,
    traceId: new Slot('traceId'),
    spanId: new Slot('spanId'),
    observedTimeUnixNano: new Slot('sendTime'),
  };
}

/** One resource, one metric per kind; what tells series apart is in the slots of their points. */
function metricsContent(options: ContentOptions): Content {
  const counts = new Map<MetricKind, number>();
  const random = seededRandom(options.seed);
  // Drawn by position and not counted out, with a random start, so that requests of one point get all kinds too.
  const shift = random();
  for (let i = 0; i < options.items; i += 1) {
    const kind = kindAt(options.metricKinds, (i + shift) / options.items);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const metrics: Message[] = [];
  const kinds: MetricKind[] = [];
  for (const [kind, count] of counts) {
    metrics.push(metric(kind, count, options));
    for (let i = 0; i < count; i += 1) kinds.push(kind);
  }
  const resource = resourceOf('checkout', options.class, 0);
  const scope = { name: 'io.shop.metrics', version: '1.4.2' };
  return { request: { resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }] }, kinds };
}

/** The kind whose part of the weights, laid end to end, covers `place` (0…1). */
function kindAt(weights: ContentOptions['metricKinds'], place: number): MetricKind {
  const used = METRIC_KINDS.filter((kind) => (weights[kind] ?? 0) > 0);
  let rest = place * used.reduce((sum, kind) => sum + weights[kind]!, 0);
  for (const kind of used) {
    rest -= weights[kind]!;
    if (rest < 0) return kind;
  }
  return used.at(-1)!;
}

/** Values of every generated histogram point; `sum` is theirs. */
const HISTOGRAM_COUNT = 12;
export const HISTOGRAM_SUM = 34.5;

function metric(kind: MetricKind, count: number, options: ContentOptions): Message {
  const points = Array.from({ length: count }, () => dataPoint(kind, options));
  switch (kind) {
    case 'gauge':
      return {
        name: 'process.queue.depth',
        description: 'Waiting jobs',
        unit: '{job}',
        gauge: { dataPoints: points },
      };
    case 'sum':
      return {
        name: 'http.server.requests',
        unit: '{request}',
        sum: { dataPoints: points, aggregationTemporality: 1, isMonotonic: true },
      };
    case 'cumulativeSum':
      return {
        name: 'http.server.bytes.total',
        unit: 'By',
        sum: { dataPoints: points, aggregationTemporality: 2, isMonotonic: true },
      };
    case 'histogram':
      return {
        name: 'http.server.request.duration',
        unit: 's',
        histogram: { dataPoints: points, aggregationTemporality: 1 },
      };
    case 'exponentialHistogram':
      return {
        name: 'db.client.operation.duration',
        unit: 's',
        exponentialHistogram: { dataPoints: points, aggregationTemporality: 1 },
      };
  }
}

function dataPoint(kind: MetricKind, options: ContentOptions): Message {
  const attributes: Message[] = [
    text('http.request.method', 'GET'),
    text('http.route', '/api/v1/orders'),
    { key: 'http.response.status_code', value: { intValue: new Slot('status') } },
    { key: 'host.name', value: { stringValue: new Slot('host', 'node-') } },
    { key: 'k8s.pod.uid', value: { stringValue: new Slot('uid', '7c1e8f5e-6b0a-4b0e-9d6c-0000') } },
  ];
  if (options.metricIdAttribute) {
    attributes.push({ key: ID_ATTRIBUTE, value: { stringValue: new Slot('readableId') } });
  }
  const point: Message = {
    startTimeUnixNano: new Slot('startTime'),
    timeUnixNano: new Slot('sendTime'),
    attributes,
  };
  if (options.metricIds) point.exemplars = [exemplar()];
  if (kind === 'histogram') {
    return {
      ...point,
      count: HISTOGRAM_COUNT,
      sum: HISTOGRAM_SUM,
      bucketCounts: [1, 4, 4, 2, 1],
      explicitBounds: [0.5, 2, 4, 8],
      min: 0.25,
      max: 9.5,
    };
  }
  if (kind === 'exponentialHistogram') {
    return {
      ...point,
      count: HISTOGRAM_COUNT,
      sum: HISTOGRAM_SUM,
      scale: 2,
      zeroCount: 1,
      positive: { offset: -3, bucketCounts: [2, 5, 3, 1] },
      min: 0.25,
      max: 9.5,
    };
  }
  return { ...point, asDouble: new Slot('value') };
}

function exemplar(): Message {
  return {
    timeUnixNano: new Slot('exemplarTime'),
    asDouble: 1.5,
    spanId: new Slot('spanId'),
    traceId: new Slot('traceId'),
  };
}

function text(key: string, value: string): Message {
  return { key, value: { stringValue: value } };
}

function integer(key: string, value: number): Message {
  return { key, value: { intValue: value } };
}

function pick<T extends Value>(from: readonly T[], random: () => number): T {
  return from[Math.floor(random() * from.length)]!;
}
