/** Values that only look like what an admin route expects, once JavaScript has made a number or a text of them, are refused. */
import { AdminServer } from '@nrdot/service';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { addRoutes } from '../../services/dlq/src/routes.ts';
import { addTapRoute } from '../../services/receiver/src/tap/tap.ts';
import { readEvents } from '../../shared/console/src/events.ts';

const log = createLogger({ level: 'silent', format: 'json' });
const admin = new AdminServer({ listen: { host: '127.0.0.1', port: 0 } }, new MetricsRegistry(['dlq']), log);
const done: unknown[] = [];
let base: string;
beforeAll(async () => {
  addRoutes(admin, {
    segments: { stats: () => ({ items: 0 }), scan: async function* () {} } as never,
    replayer: { replay: (what: unknown) => done.push(what), purge: () => done.push('purged') } as never,
    rate: { bytesPerSecond: 1, setCap: (bytes: number) => done.push(bytes) } as never,
    log,
    now: Date.now,
  });
  addTapRoute(admin, { begin: () => ({ began: true }) } as never);
  const board = { recent: [], untold: [] };
  admin.route('GET', '/api/events', ({ query }) =>
    readEvents({ store: {} as never, board: board as never, notReady: () => 'away' }, query),
  );
  base = `http://127.0.0.1:${(await admin.start()).port}/api`;
});
afterAll(() => admin.stop());

async function status(path: string, body?: string, type = 'application/json'): Promise<number> {
  const asked =
    body === undefined ? {} : ({ method: 'POST', headers: { 'content-type': type }, body } as const);
  return (await fetch(`${base}${path}`, asked)).status;
}

it.each([
  '{"rate":[5]}',
  '{"rate":true}',
  '{"rate":null}',
  '{"rate":"0x10"}',
  '{"rate":" 5 "}',
  '{"rate":1.5}',
  '{"since":[5]}',
  '{"since":true}',
  '{"since":"5 or so"}',
  '{"class":["high"]}',
  '{"class":{"toString":1}}',
  '{"rejected":[]}',
  '{"area":["normal"]}',
  '[1]',
  '5',
])('replay and purge refuse %s without doing anything', async (body) => {
  expect(await status('/dlq/replay', body)).toBe(400);
  if (!body.includes('rate')) expect(await status('/dlq/purge?yes=true', body)).toBe(400);
  expect(done).toEqual([]);
});

it('replay and purge refuse a body that is not JSON', async () => {
  expect(await status('/dlq/replay', 'class: high', 'application/yaml')).toBe(400);
  expect(done).toEqual([]);
});

it.each([
  '/dlq/records?limit=1e1',
  '/dlq/records?limit=0x10',
  '/dlq/records?class=high&class=high',
  '/dlq/records?since=1&since=2',
  '/tap?limit=0x10',
  '/tap?service=a&service=b',
  '/events?limit=1e1',
])('%s is refused', async (path) => {
  expect(await status(path)).toBe(400);
});

it('valid values are accepted, as JSON and in the query', async () => {
  expect(await status('/dlq/replay', '{"rate":5,"class":"high","since":"2026-01-02"}')).toBe(200);
  expect(await status('/dlq/replay?rate=6&rejected', '{}')).toBe(200);
  expect(done.filter((each) => typeof each === 'number')).toEqual([5, 6]);
  expect(await status('/dlq/records?limit=10&since=1')).toBe(200);
  expect(await status('/tap?limit=10')).toBe(200);
});

it('events are told without what somebody else has put among them in Redis', async () => {
  const event = {
    ...{ at: 5, service: 'dlq', level: 'info', subject: 'redis', state: 'well', message: 'Redis is back.' },
  };
  const odd = [
    { at: '5' },
    { at: 1e300 },
    { service: 1 },
    { level: 'loud' },
    { state: null },
    { message: {} },
  ];
  const texts = [
    ...['garbage', 'null', '[]', '{"at":6}', JSON.stringify(event)],
    ...odd.map((part) => JSON.stringify({ ...event, ...part })),
  ];
  const store = { events: async () => texts };
  const board = { recent: [], untold: [] };
  expect(await readEvents({ store, board, notReady: () => undefined }, {})).toEqual({ events: [event] });
});
