/**
 * Cost of the wire walk and of the JSON conversion per item, beside what decoding the same bytes costs.
 * Run: node shared/otlp/bench/walk.bench.ts
 */
import { fromBinary, toJson } from '@bufbuild/protobuf';
import { jsonToProtobuf, walk } from '../src/index.ts';
import { toOtlpJson } from '../test/arbitrary.ts';
import { referenceRequest } from '../test/reference.ts';

const ITEMS = 500;
const ROUNDS = 7;

function traces(): Buffer {
  const hex = (n: number, length: number) => n.toString(16).padStart(length, '0');
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
  const spans = Array.from({ length: ITEMS }, (_, i) => ({
    traceId: hex(i + 1, 32),
    spanId: hex(i + 1, 16),
    parentSpanId: hex(i, 16),
    name: 'GET /api/v1/orders/{id}',
    kind: 2,
    startTimeUnixNano: '1795473412830000000',
    endTimeUnixNano: '1795473412930000000',
    attributes: [
      attribute('http.request.method', 'GET'),
      attribute('url.path', `/api/v1/orders/${i}`),
      attribute('server.address', 'orders.prod.svc.cluster.local'),
      { key: 'http.response.status_code', value: { intValue: '200' } },
      attribute('user_agent.original', 'Mozilla/5.0 (X11; Linux x86_64)'),
      { key: 'thread.id', value: { intValue: String(i) } },
    ],
    status: {},
  }));
  const resource = {
    attributes: [attribute('service.name', 'orders'), attribute('k8s.pod.name', 'orders-7d9f')],
  };
  const json = { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'http' }, spans }] }] };
  return Buffer.from(JSON.stringify(json));
}

function nsPerItem(run: () => void): number {
  for (let i = 0; i < 200; i++) run();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < 100; i++) run();
    return Number(process.hrtime.bigint() - start) / 100 / ITEMS;
  });
  return rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
}

const json = traces();
const body = jsonToProtobuf('traces', json);
const schema = referenceRequest('traces');
const again = Buffer.from(JSON.stringify(toOtlpJson(toJson(schema, fromBinary(schema, body)))));
console.log(
  `${ITEMS} spans, ${body.byteLength} bytes as protobuf, ${again.byteLength} as JSON; median ns per span`,
);
const rows: [string, () => void][] = [
  ['walk (validate and count)', () => void walk('traces', body)],
  ['@bufbuild/protobuf decode', () => void fromBinary(schema, body)],
  ['JSON to protobuf', () => void jsonToProtobuf('traces', json)],
  ['JSON.parse alone', () => void JSON.parse(json.toString('utf8'))],
];
for (const [name, run] of rows) console.log(`${nsPerItem(run).toFixed(0).padStart(7)}  ${name}`);
