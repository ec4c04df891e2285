import { create, fromBinary, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { loadConfig } from '@nrdot/config';
import { walk } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import { describe, expect, it, vi } from 'vitest';
import { countItems, request, WALKED } from '../../../../shared/otlp/test/arbitrary.ts';
import { referenceRequest } from '../../../../shared/otlp/test/reference.ts';
import { Classifier } from './classifier.ts';
import { Matcher } from './matcher.ts';
import { findMessage, readAttributes, readEnum, readString } from './read.ts';

const classifier = (priority: string) =>
  new Classifier(
    loadConfig({ env: {}, text: `priority:\n${priority.replace(/^/gm, '  ')}` }).config.priority,
  );
const bytes = (signal: 'traces' | 'metrics' | 'logs', json: JsonObject) => {
  const schema = referenceRequest(signal);
  return Buffer.from(toBinary(schema, fromJson(schema, json)));
};
const resource = (attributes: Record<string, string>) => ({
  attributes: Object.entries(attributes).map(([key, stringValue]) => ({ key, value: { stringValue } })),
});
const traces = (...resources: [Record<string, string>, JsonObject[]][]) =>
  bytes('traces', {
    resourceSpans: resources.map(([attributes, spans]) => ({
      resource: resource(attributes),
      scopeSpans: [{ scope: { name: 'lib' }, spans }],
    })),
  });
const span = (name: string, code = 0): JsonObject => ({ name, status: { code } });
/** Names of the spans, by class. */
const spansOf = (parts: { class: PriorityClass; body: Buffer | undefined }[], whole: Buffer) =>
  Object.fromEntries(
    parts.map((part) => {
      const decoded = fromBinary(referenceRequest('traces'), part.body ?? whole) as unknown as {
        resourceSpans: { scopeSpans: { scope?: { name: string }; spans: { name: string }[] }[] }[];
      };
      return [
        part.class,
        decoded.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans.map((x) => x.name))),
      ];
    }),
  );

describe('the classifier', () => {
  it('leaves a request of one class unchanged', () => {
    const body = traces([{ 'service.name': 'a' }, [span('x')]]);
    expect(classifier('default_class: high').classify('traces', body)).toEqual([
      { class: 'high', body: undefined },
    ]);
  });

  it('takes the class from the sender before any rule', () => {
    const c = classifier('rules: [{class: high, resource: {service.name: shop}}]');
    const body = traces([{ 'service.name': 'shop', 'nrdot.priority': 'Critical' }, [span('x')]]);
    expect(c.classify('traces', body)[0]?.class).toBe('critical');
    const wrong = traces([{ 'service.name': 'shop', 'nrdot.priority': 'urgent' }, [span('x')]]);
    expect(c.classify('traces', wrong)[0]?.class).toBe('high');
  });

  it('splits by resource, in the order of the rules', () => {
    const c = classifier(
      'rules:\n  - {class: critical, resource: {service.name: {regex: "^pay"}}}\n  - {class: high, signal: traces, resource: {env: prod}}\n',
    );
    const body = traces(
      [{ 'service.name': 'payments', env: 'prod' }, [span('a'), span('b')]],
      [{ 'service.name': 'shop', env: 'prod' }, [span('c')]],
      [{ 'service.name': 'shop', env: 'test' }, [span('d')]],
      [{ 'service.name': 'payroll' }, [span('e')]],
    );
    expect(spansOf(c.classify('traces', body), body)).toEqual({
      critical: ['a', 'b', 'e'],
      high: ['c'],
      normal: ['d'],
    });
  });

  it('splits by span name and status, and keeps resource and scope', () => {
    const c = classifier(
      'rules:\n  - {class: critical, status: error}\n  - {class: high, scope: lib, span: {regex: "^GET"}}\n',
    );
    const body = traces([{ a: 'b' }, [span('GET /', 2), span('GET /'), span('POST /'), span('PUT /', 1)]]);
    const parts = c.classify('traces', body);
    expect(spansOf(parts, body)).toEqual({
      critical: ['GET /'],
      high: ['GET /'],
      normal: ['POST /', 'PUT /'],
    });
    for (const part of parts) {
      const decoded = fromBinary(referenceRequest('traces'), part.body!) as unknown as {
        resourceSpans: {
          resource: { attributes: { key: string }[] };
          scopeSpans: { scope: { name: string } }[];
        }[];
      };
      expect(decoded.resourceSpans[0]!.resource.attributes[0]!.key).toBe('a');
      expect(decoded.resourceSpans[0]!.scopeSpans[0]!.scope.name).toBe('lib');
    }
  });

  it('splits logs by severity, with names or numbers as bounds', () => {
    const c = classifier(
      'rules:\n  - {class: critical, severity: {min: error}}\n  - {class: high, severity: {min: 9, max: warn}}\n',
    );
    const body = bytes('logs', {
      resourceLogs: [
        { scopeLogs: [{ logRecords: [1, 8, 9, 16, 17, 24].map((severityNumber) => ({ severityNumber })) }] },
      ],
    });
    const parts = c.classify('logs', body).map((part) => [part.class, walk('logs', part.body!).items]);
    expect(parts).toEqual([
      ['critical', 2],
      ['high', 2],
      ['normal', 2],
    ]);
  });

  it('treats ^system\\. metrics as critical by default, and errors too with one more rule', () => {
    const body = bytes('metrics', {
      resourceMetrics: [
        {
          scopeMetrics: [
            {
              metrics: ['system.cpu.time', 'http.server.duration'].map((name) => ({
                name,
                gauge: { dataPoints: [{ asDouble: 1 }] },
              })),
            },
          ],
        },
      ],
    });
    const defaults = new Classifier(loadConfig({ env: {} }).config.priority);
    expect(defaults.classify('metrics', body).map((part) => part.class)).toEqual(['critical', 'normal']);
    const errors = classifier('rules: [{class: critical, status: error}]');
    expect(errors.classify('traces', traces([{}, [span('x', 2)]]))).toEqual([
      { class: 'critical', body: undefined },
    ]);
    expect(errors.classify('metrics', body)).toEqual([{ class: 'normal', body: undefined }]);
  });

  for (const signal of WALKED) {
    it(`neither loses nor duplicates an item of any ${signal}, and each part has one class`, () => {
      const c = classifier(`rules:
  - {class: critical, signal: traces, span: {regex: "[a-m]"}}
  - {class: critical, signal: metrics, metric: {regex: "[a-m]"}}
  - {class: critical, signal: logs, severity: {min: 9}}
  - {class: high, scope: {regex: "."}}
  - {class: high, resource: {service.name: {regex: ".*"}}}`);
      const schema = referenceRequest(signal);
      fc.assert(
        fc.property(request(signal), ({ bytes: body }) => {
          const parts = c.classify(signal, body);
          const total = walk(signal, body).items;
          const sum = parts.reduce((all, part) => all + walk(signal, part.body ?? body).items, 0);
          expect(sum).toBe(total);
          expect(new Set(parts.map((part) => part.class)).size).toBe(parts.length);
          for (const part of parts) {
            if (part.body === undefined) continue;
            expect(countItems(signal, fromBinary(schema, part.body))).toBe(walk(signal, part.body).items);
            expect(c.classify(signal, part.body)).toEqual([{ class: part.class, body: undefined }]);
          }
        }),
        { numRuns: 300 },
      );
    });
  }

  it('handles a hostile pattern with a hostile value in linear time', () => {
    const hostile = new Matcher({ regex: '^(a+)+$' });
    expect(hostile.matches(`${'a'.repeat(100_000)}!`)).toBe(true); // cut before the "!"
    expect(hostile.matches(`${'a'.repeat(1_000)}!`)).toBe(false);
    expect(new Matcher({ regex: '(x|x)*y(.*.*.*.*.*)=' }).matches('x'.repeat(1_024))).toBe(false);
  });

  it('caches a bounded number of resources and still distinguishes them', () => {
    const c = classifier('rules: [{class: high, resource: {pod: {regex: "7$"}}}]');
    for (let i = 0; i < 3_000; i++) {
      const body = traces([{ pod: `pod-${i}`, padding: 'p'.repeat(i % 50) }, [span('x')]]);
      expect(c.classify('traces', body)[0]?.class).toBe(i % 10 === 7 ? 'high' : 'normal');
    }
  });

  it('classifies a resource as if it were alone, in any order of resources', () => {
    const c = classifier('rules: [{class: high, resource: {pod: {regex: "[13579]$"}}}]');
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat({ max: 6 }), { minLength: 1, maxLength: 6 })), (requests) => {
        for (const pods of requests) {
          const body = traces(
            ...pods.map((pod): [Record<string, string>, JsonObject[]] => [
              { pod: `pod-${pod}` },
              [span('x')],
            ]),
          );
          const odd = pods.filter((pod) => pod % 2 === 1).length;
          const high = c.classify('traces', body).find((part) => part.class === 'high');
          expect(high ? walk('traces', high.body ?? body).items : 0).toBe(odd);
        }
      }),
    );
  });

  it('takes the last value of a repeated field, as protobuf does', () => {
    const twice = Buffer.from('0a01610a0162080308047a0218017a021802', 'hex');
    expect(readString(twice, 0, 6, 1)).toBe('b');
    expect(readEnum(twice, 6, 10, 1)).toBe(4);
    const status = findMessage(twice, 10, twice.byteLength, 15)!;
    expect(readEnum(status.body, status.start, status.end, 3)).toBe(2);
  });

  it('merges a message in several pieces as protobuf does', () => {
    // What has been set stays when a later piece says nothing about it.
    const c = classifier(`rules:
  - {class: critical, resource: {service.name: pay, env: prod}, scope: lib, status: error}
  - {class: high, resource: {service.name: pay, env: prod}}`);
    const pieces = (number: number, ...contents: Buffer[]) =>
      Buffer.concat(
        contents.map((content) =>
          Buffer.concat([Buffer.from([number * 8 + 2, content.byteLength]), content]),
        ),
      );
    const attribute = (key: string, value: string) =>
      pieces(1, Buffer.concat([pieces(1, Buffer.from(key)), pieces(2, pieces(1, Buffer.from(value)))]));
    const error = pieces(15, Buffer.from([0x18, 2]), pieces(2, Buffer.from('no route')));
    const spans = (...items: Buffer[]) =>
      Buffer.concat([
        pieces(1, pieces(1, Buffer.from('lib')), pieces(2, Buffer.from('1.0'))), // its name, then its version
        pieces(2, ...items),
      ]);
    const [pay, prod] = [attribute('service.name', 'pay'), attribute('env', 'prod')];
    const orders: Record<string, Buffer[]> = {
      'one after the other': [pieces(1, pay, prod), pieces(2, spans(error))],
      'around what they describe': [pieces(1, pay), pieces(2, spans(error)), pieces(1, prod)],
      'with an empty one last': [pieces(1, pay, prod, Buffer.alloc(0)), pieces(2, spans(error))],
    };
    const schema = referenceRequest('traces');
    for (const [order, parts] of Object.entries(orders)) {
      const body = pieces(1, Buffer.concat(parts));
      const merged = Buffer.from(toBinary(schema, fromBinary(schema, body)));
      expect(c.classify('traces', merged), `merged: ${order}`).toEqual([
        { class: 'critical', body: undefined },
      ]);
      expect(c.classify('traces', body), order).toEqual([{ class: 'critical', body: undefined }]);
    }
    // When it is cut, each part has all pieces.
    const mixed = pieces(
      1,
      Buffer.concat([pieces(1, pay), pieces(2, spans(error, Buffer.alloc(0))), pieces(1, prod)]),
    );
    const cut = c.classify('traces', mixed);
    expect(cut.map((part) => part.class)).toEqual(['critical', 'high']);
    for (const part of cut)
      expect(c.classify('traces', part.body!)).toEqual([{ class: part.class, body: undefined }]);
  });

  it('takes the last key and the last value of an attribute with two', () => {
    const attribute = '0a01610a0162' + '12030a0178' + '12060a01790a017a'; // keys a, b; values x, then y and z in one
    const twice = Buffer.from(`0a13${attribute}`, 'hex');
    const found = readAttributes(twice, 0, twice.byteLength, new Set(['a', 'b']));
    expect([...found]).toEqual([['b', 'z']]);
    const emptyLast = Buffer.from('0a0a0a016112030a01781200', 'hex');
    expect([...readAttributes(emptyLast, 0, emptyLast.byteLength, new Set(['a']))]).toEqual([['a', 'x']]);
  });

  it('accepts an empty request', () => {
    const schema = referenceRequest('traces');
    expect(
      classifier('rules: []').classify('traces', Buffer.from(toBinary(schema, create(schema)))),
    ).toHaveLength(1);
  });
});

it('compiles each pattern once for all signals: hundreds of large ones would block the event loop', () => {
  const { priority } = loadConfig({
    env: {},
    text: 'priority: { rules: [{ class: high, resource: { a: { regex: x }, b: { regex: y } } }] }',
  }).config;
  const compile = vi.spyOn(RE2JS, 'compile');
  new Classifier(priority);
  expect(compile).toHaveBeenCalledTimes(2);
  compile.mockRestore();
});
