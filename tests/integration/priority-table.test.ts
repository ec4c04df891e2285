/** The table in docs/priority.md is a promise: each of its rows is tried on a real Redis. */
import { readFileSync } from 'node:fs';
import { CLASSES, newBatchId, type PriorityClass, Store } from '@nrdot/queue';
import { connect, type RedisConnection } from '@nrdot/redis';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../redis-server.ts';

const CAPACITY = 100_000;
/** Fill at which a row is tried, in percent, by what the table says. */
const FILLS: Record<string, number[]> = {
  'below 95 %': [0, 50, 94.9],
  '95 % to 96.6 %': [95, 96.6],
  '96.7 % to 98.3 %': [96.7, 98.3],
  '98.4 % to 100 %': [98.4, 99.5],
  'would be over 100 %': [99.99],
  any: [0, 50, 96, 99],
};
const PAYLOAD_BYTES = 50;

const page = readFileSync(new URL('../../docs/priority.md', import.meta.url), 'utf8');
const table = /<!-- table[^>]*-->([\s\S]*?)<!-- end of table -->/.exec(page)?.[1] ?? '';
const rows = table
  .trim()
  .split('\n')
  .slice(2)
  .map((line) =>
    line
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
  );

let dir: ReturnType<typeof temporaryDirectory>;
let server: RedisServer;
let redis: RedisConnection;
let store: Store;
beforeAll(async () => {
  dir = temporaryDirectory();
  server = await startRedis({ dir: dir.path });
  redis = connect({ url: server.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
  store = new Store(redis, {
    prefix: '{test}',
    maxBytes: CAPACITY,
    maxItems: 1e9,
    spillAt: 0.95,
    spillHysteresis: 0.05,
    breaker: {
      failures: 1,
      throttleRatio: 0.3,
      minAnswers: 10,
      windowMs: 30_000,
      minOpenMs: 60_000,
      maxOpenMs: 60_000,
    },
  });
});
beforeEach(async () => {
  await redis.flushall();
});
afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

const put = async (priorityClass: PriorityClass, bytes: number, origin: 'live' | 'replay' = 'live') => {
  const [[result] = []] = await store.enqueue(
    [
      [
        {
          id: newBatchId(Date.now()),
          signal: 'traces',
          class: priorityClass,
          origin,
          encoding: 'identity',
          items: 1,
          receivedAt: Date.now(),
          payload: Buffer.alloc(bytes),
        },
      ],
    ],
    Date.now(),
  );
  return result === 'full' ? 'refused' : result;
};

describe('what happens to a new batch', () => {
  it('has a table with rows for every state of the breaker at every fill', () => {
    const fills = (state: string) => rows.filter(([breaker]) => breaker === state).map(([, fill]) => fill);
    const all = Object.keys(FILLS).filter((fill) => fill !== 'any');
    expect(fills('closed')).toEqual(all);
    expect(fills('half_open')).toEqual(all);
    expect(fills('open')).toEqual(['any', 'would be over 100 %']);
  });

  for (const [breaker = '', fill = '', ...expected] of rows) {
    for (const percent of FILLS[fill] ?? []) {
      for (const replay of [false, true]) {
        it(`breaker ${breaker}, fill ${percent} %${replay ? ', work to replay' : ''}: ${expected.join(', ')}`, async () => {
          for (const [i, c] of CLASSES.entries()) {
            await redis.flushall();
            // What fills it is replayed work or critical: that is queued wherever there is room.
            const filling = Math.round((CAPACITY * percent) / 100) - (replay ? 1 : 0);
            if (replay) await put('normal', 1, 'replay');
            if (filling > 0) await put('critical', filling, 'replay');
            if (breaker === 'open') await store.report('traces', 'failure', 0);
            if (breaker === 'half_open') await redis.hset(store.keys.breaker('traces'), 'state', 'half_open');
            expect(await put(c, PAYLOAD_BYTES), c).toBe(expected[i]);
          }
        });
      }
    }
  }
});
