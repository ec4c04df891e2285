import { ConfigError, loadConfig } from '@nrdot/config';
import { jsonToProtobuf, walk } from '@nrdot/otlp';
import { assertJobData } from '@nrdot/queue';
import { AdminServer, addConfigRoutes, formatAddress, LiveConfig } from '@nrdot/service';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { afterEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { selectionOf } from '../../services/dlq/src/selection.ts';
import { post, startReceiver } from './receiver.ts';

const clean = () => {
  const fresh = {} as Record<string, unknown>;
  return [
    fresh.polluted,
    (Object.prototype as Record<string, unknown>).polluted,
    ([] as unknown as typeof fresh).polluted,
  ];
};
afterEach(() => expect(clean()).toEqual([undefined, undefined, undefined]));
const EVIL = '{"polluted":1}';
const KEYS = [`"__proto__":${EVIL}`, `"constructor":{"prototype":${EVIL}}`, `"prototype":${EVIL}`];

describe('a key that would change all objects', () => {
  it.each(KEYS)('is refused in a configuration: %s', (key) => {
    for (const text of [`{${key}}`, `{"receiver":{${key}}}`, `{"exporter":{"headers":{"a":"b"},${key}}}`]) {
      expect(() => loadConfig({ text, file: 'test.yaml', env: {} }), text).toThrow(ConfigError);
    }
  });

  it.each([
    'a: &a {polluted: 1}\n__proto__: *a\n',
    '<<: {polluted: 1}\n',
    'receiver: {<<: {__proto__: {polluted: 1}}}\n',
  ])('is refused in YAML: %j', (text) => {
    expect(() => loadConfig({ text, file: 'test.yaml', env: {} })).toThrow(ConfigError);
  });

  it.each([
    '__proto__.polluted: 1',
    'constructor.prototype.polluted: 1',
    'queue.max_bytes: 1MiB',
    'queue: {spill_at.x: 1}',
    'queue: {constructor: {prototype: {polluted: 1}}}',
    'exporter: {headers: {__proto__: a}}',
    'exporter: {headers: {constructor: a}}',
    'priority: {rules: [{class: high, resource: {__proto__: {regex: a}}}]}',
    'toString: {a: 1}',
    'queue: {hasOwnProperty: {a: 1}}',
    'valueOf: 1',
  ])('is refused from a file and at runtime, in YAML and in JSON: %s', async (text) => {
    expect(() => loadConfig({ text, file: 'test.yaml', env: {} })).toThrow(ConfigError);
    for (const name of ['overrides', 'applied'] as const) {
      const path = text.replace(/: 1(MiB)?$/, '');
      if (/^[\w.]+$/.test(path) && path !== 'queue.max_bytes')
        expect(() => loadConfig({ env: {}, [name]: { [path]: 1 } }), name).toThrow(ConfigError);
    }
    const admin = new AdminServer(
      { listen: { host: '127.0.0.1', port: 0 } },
      new MetricsRegistry([]),
      createLogger({ level: 'silent', format: 'json' }),
    );
    addConfigRoutes(admin, new LiveConfig({ env: {} }), () => {});
    const url = `http://${formatAddress(await admin.start())}/api/config`;
    for (const [type, body] of [
      ['application/yaml', text],
      ['application/json', JSON.stringify(parse(text))],
    ] as const) {
      for (const step of ['preview', 'apply']) {
        const answer = await fetch(`${url}/${step}`, {
          method: 'POST',
          headers: { 'content-type': type },
          body,
        });
        expect([answer.status, clean()], `${step} ${type}`).toEqual([400, [undefined, undefined, undefined]]);
      }
    }
    await admin.stop();
  });

  it.each(KEYS)('is an unknown name to an admin route, which reports it: %s', async (key) => {
    const admin = new AdminServer(
      { listen: { host: '127.0.0.1', port: 0 } },
      new MetricsRegistry([]),
      createLogger({ level: 'silent', format: 'json' }),
    );
    addConfigRoutes(admin, new LiveConfig({ env: {} }), () => {});
    admin.route('POST', '/names', ({ body }) => ({ names: Object.keys(body as object) }));
    admin.route('POST', '/selection', ({ body }) => selectionOf({ ...(body as object) }, ['normal']));
    const at = `http://${formatAddress(await admin.start())}`;
    const ask = async (path: string) => {
      const sent = { method: 'POST', headers: { 'content-type': 'application/json' }, body: `{${key}}` };
      const answer = await fetch(at + path, sent);
      return [answer.status, await answer.text()];
    };
    const name = Object.keys(JSON.parse(`{${key}}`) as object)[0]!;
    expect(await ask('/names')).toEqual([200, JSON.stringify({ names: [name] })]);
    const refused = [400, expect.stringContaining(name)];
    expect(await ask('/selection')).toEqual(refused);
    expect(await ask('/api/config/preview')).toEqual(refused);
    expect(await ask('/api/config/apply')).toEqual(refused);
    await admin.stop();
  });

  it.each(KEYS)('is an unknown field of OTLP/JSON, which is ignored: %s', async (key) => {
    const receiver = await startReceiver();
    const attribute = '{"key":"__proto__","value":{"stringValue":"x"}}';
    const body = `{${key},"resourceSpans":[{${key},"resource":{"attributes":[${attribute}]},"scopeSpans":[{"spans":[{${key},"name":"x"}]}]}]}`;
    expect((await post(receiver.url, {}, body)).status).toBe(200);
    expect(receiver.batches[0]?.items).toBe(1);
    await receiver.stop();
  });

  it('is not a field of a message, anywhere in JSON', () => {
    for (const field of ['__proto__', 'constructor', 'hasOwnProperty', 'toString']) {
      const body = Buffer.from(
        `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x","${field}":{"a":1}}]}]}]}`,
      );
      expect(walk('traces', jsonToProtobuf('traces', body)).items, field).toBe(1);
    }
  });

  it('in job data from Redis is checked like any other', () => {
    expect(() => assertJobData('j', JSON.parse(`{"__proto__":{"signal":"traces","class":"high"}}`))).toThrow(
      'signal',
    );
  });
});
