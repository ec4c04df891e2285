import { ConfigError, loadConfig } from '@nrdot/config';
import { jsonToProtobuf, OtlpError, walk } from '@nrdot/otlp';
import { assertJobData } from '@nrdot/queue';
import { afterEach, describe, expect, it } from 'vitest';
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

  it.each(KEYS)('is an unknown field of OTLP/JSON, which is ignored: %s', async (key) => {
    const receiver = await startReceiver();
    const attribute = '{"key":"__proto__","value":{"stringValue":"x"}}';
    const body = `{${key},"resourceSpans":[{${key},"resource":{"attributes":[${attribute}]},"scopeSpans":[{"spans":[{${key},"name":"x"}]}]}]}`;
    expect((await post(receiver.url, {}, body)).status).toBe(200);
    expect(receiver.batches[0]?.items).toBe(1);
    await receiver.stop();
  });

  it('is no field of a message, wherever JSON has one', () => {
    for (const field of ['__proto__', 'constructor', 'hasOwnProperty', 'toString']) {
      const body = Buffer.from(
        `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x","${field}":{"a":1}}]}]}]}`,
      );
      let items = -1;
      try {
        items = walk('traces', jsonToProtobuf('traces', body)).items;
      } catch (error) {
        expect(error).toBeInstanceOf(OtlpError);
      }
      expect([1, -1]).toContain(items);
    }
  });

  it('in job data from Redis is checked as any other', () => {
    expect(() => assertJobData('j', JSON.parse(`{"__proto__":{"signal":"traces","class":"high"}}`))).toThrow(
      'signal',
    );
  });
});
