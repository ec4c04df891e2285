/** What a client says is data: it names no key of Redis, ends none, and reaches none outside of the prefix. */

import { loadConfig } from '@nrdot/config';
import { Enqueuer, Store } from '@nrdot/queue';
import { connect, type RedisConnection } from '@nrdot/redis';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Classifier } from '../../services/receiver/src/classifier/classifier.ts';
import { ingest } from '../../services/receiver/src/ingest.ts';
import { type RedisServer, startRedis } from '../redis-server.ts';

const HOSTILE = [
  '{other}:payload:x',
  'high\r\nFLUSHALL\r\n',
  '*1\r\n$8\r\nFLUSHALL\r\n',
  '\0',
  '*',
  '{m}:depth',
  'critical:wait',
  '"},"class":"critical","x":{"',
  "'; redis.call('FLUSHALL') --",
  '\ud800',
  '__proto__',
];
const KEYS = /^\{m\}:(depth|books|wake|scheduler|signals|normal:(wait|b[a-z0-9]{21})|payload:b[a-z0-9]{21})$/;

let dir: ReturnType<typeof temporaryDirectory>;
let server: RedisServer;
let redis: RedisConnection;
beforeAll(async () => {
  dir = temporaryDirectory();
  server = await startRedis({ dir: dir.path });
  redis = connect({ url: server.url }, { kind: 'consumer', name: 'keys', commandTimeoutMs: 5_000 });
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

it('makes the same keys for hostile attribute values as for others', async () => {
  const { config } = loadConfig({ text: '', file: 'test.yaml', env: {} });
  const store = new Store(redis, {
    prefix: '{m}',
    maxBytes: 1e7,
    maxItems: 1e6,
    spillAt: 0.95,
    spillHysteresis: 0.05,
    breaker: config.breaker,
  });
  const enqueuer = new Enqueuer((groups) => store.enqueueGroups(groups, Date.now()));
  const classifier = new Classifier(config.priority);
  await redis.set('mine', 'untouched');
  for (const hostile of HOSTILE) {
    const attributes = [config.priority.resourceAttribute, hostile, 'service.name', 'host.name'].map(
      (key) => ({
        key,
        value: { stringValue: hostile },
      }),
    );
    const wire = Buffer.from(
      JSON.stringify({
        resourceSpans: [
          { resource: { attributes }, scopeSpans: [{ spans: [{ name: hostile, attributes }] }] },
        ],
      }),
    );
    await ingest(
      {
        signal: 'traces',
        format: 'json',
        encoding: 'identity',
        wire,
        reservation: { reserve: () => {}, look: () => {}, release: () => {} },
      },
      { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'replace' },
      {
        enqueue: (batches) => enqueuer.enqueue(batches),
        store: undefined,
        limit: undefined,
        classify: (signal, body) => classifier.classify(signal, body),
        now: Date.now,
      },
    );
  }
  const keys = await redis.keys('*');
  expect(keys.filter((key) => key !== 'mine' && !KEYS.test(key))).toEqual([]);
  expect(keys.filter((key) => key.includes(':payload:'))).toHaveLength(HOSTILE.length);
  expect(await redis.get('mine')).toBe('untouched');
  for (const id of await store.waiting('normal', 100)) {
    const data = (await redis.hget(store.keys.queue('normal', id), 'data')) ?? '';
    expect(Object.keys(JSON.parse(data))).toEqual([
      'signal',
      'class',
      'origin',
      'encoding',
      'items',
      'bytes',
      'batches',
    ]);
    expect(JSON.parse(data).class).toBe('normal');
  }
});
