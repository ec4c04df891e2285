/**
 * Cost of deciding a class, per request and per item. Run: node services/receiver/bench/classifier.bench.ts
 */
import { loadConfig } from '@nrdot/config';
import { jsonToProtobuf, walk } from '@nrdot/otlp';
import { Classifier } from '../src/classifier/classifier.ts';

const SPANS = 500;
const classifier = (rules: string) =>
  new Classifier(loadConfig({ env: {}, text: `priority: {rules: ${rules}}` }).config.priority);

function body(services: number): Buffer {
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  const resourceSpans = Array.from({ length: services }, (_, s) => ({
    resource: {
      attributes: [
        attribute('service.name', `checkout-${s}`),
        attribute('service.version', '1.4.2'),
        attribute('host.name', 'node-17.eu-central-1.compute.internal'),
        attribute('k8s.pod.name', 'checkout-7d9f8b6c5-x2x7k'),
        attribute('deployment.environment', 'production'),
      ],
    },
    scopeSpans: [
      {
        scope: { name: 'io.opentelemetry.http' },
        spans: Array.from({ length: SPANS / services }, (_, i) => ({
          traceId: (i + 1).toString(16).padStart(32, '0'),
          spanId: (i + 1).toString(16).padStart(16, '0'),
          name: i % 3 === 0 ? 'GET /api/v1/orders/{id}' : 'SELECT orders',
          attributes: [attribute('http.request.method', 'GET'), attribute('url.path', `/api/v1/orders/${i}`)],
          status: { code: i % 100 === 0 ? 2 : 0 },
        })),
      },
    ],
  }));
  return jsonToProtobuf('traces', Buffer.from(JSON.stringify({ resourceSpans })));
}

/** CPU time, so that other work on the machine does not count: median over rounds of a tenth of a second, after one to warm up. */
function nsPerCall(run: () => void): number {
  const rounds = Array.from({ length: 8 }, () => {
    const start = process.cpuUsage();
    let calls = 0;
    let us = 0;
    while (us < 1e5) {
      for (let i = 0; i < 100; i++) run();
      calls += 100;
      const { user, system } = process.cpuUsage(start);
      us = user + system;
    }
    return (us * 1000) / calls;
  });
  return rounds.slice(1).sort((a, b) => a - b)[3]!;
}

const RESOURCE_RULES =
  '[{class: critical, resource: {service.name: {regex: "^pay"}}}, {class: high, resource: {deployment.environment: production}}]';
const ITEM_RULES = '[{class: critical, status: error}, {class: high, span: {regex: "^GET"}}]';
const one = body(1);
const five = body(5);
for (const [name, ns] of [
  ['walk alone, for comparison', nsPerCall(() => void walk('traces', one))],
  [
    'resource rules, one resource',
    nsPerCall(
      (
        (c) => () =>
          void c.classify('traces', one)
      )(classifier(RESOURCE_RULES)),
    ),
  ],
  [
    'resource rules, five resources',
    nsPerCall(
      (
        (c) => () =>
          void c.classify('traces', five)
      )(classifier(RESOURCE_RULES)),
    ),
  ],
  [
    'item rules, cut into three',
    nsPerCall(
      (
        (c) => () =>
          void c.classify('traces', one)
      )(classifier(ITEM_RULES)),
    ),
  ],
] as const) {
  console.log(`${ns.toFixed(0).padStart(9)} ns per request of ${SPANS} spans  ${name}`);
}
