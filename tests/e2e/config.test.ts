/** The configuration of a running pipeline: each live option by itself, and nothing half-applied. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { options } from '@nrdot/config';
import { startMockUpstream, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Running, startOne } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let running: Running;
/** Takes the own metrics of the process, and remembers their key. */
let ownKey: unknown;
const own = createServer((request, response) => {
  ownKey = request.headers['api-key'];
  request.resume().on('end', () => response.writeHead(200).end());
});
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await new Promise<void>((resolve) => own.listen(0, '127.0.0.1', resolve));
  const { port } = own.address() as AddressInfo;
  running = await startOne(dir.path, mock, {
    log: { level: 'warn', format: 'json' },
    exporter: { headers: { 'api-key': 'first-secret' } },
    priority: { rules: [] },
    limiter: { daily_keys: 1_000 },
    telemetry: { otlp: { endpoint: `http://127.0.0.1:${port}`, interval: '1s' } },
  });
});
afterAll(async () => {
  await running?.[Symbol.asyncDispose]();
  await mock.close();
  own.closeAllConnections();
  own.close();
  dir[Symbol.dispose]();
});

interface Answer {
  status: number;
  body: {
    changes?: { path: string; from: string; to: string; live: boolean }[];
    applies?: boolean;
    error?: { code: string; message: string; problems?: { path: string }[] };
  };
}

const get = async (path: string) => (await (await fetch(running.admin + path)).json()) as never;
const post = async (path: string, body?: object | string): Promise<Answer> => {
  const response = await fetch(running.admin + path, {
    method: 'POST',
    ...(body === undefined
      ? {}
      : {
          headers: { 'content-type': typeof body === 'string' ? 'application/yaml' : 'application/json' },
          body: typeof body === 'string' ? body : JSON.stringify(body),
        }),
  });
  return { status: response.status, body: (await response.json()) as Answer['body'] };
};
/** A nested change out of a dotted path. */
const at = (path: string, value: unknown): object =>
  path.split('.').reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as object;

const send = async (resource: Record<string, string> = {}, name = 'a span', headers = {}) =>
  (
    await fetch(`${running.otlp}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({
        resourceSpans: [
          {
            resource: {
              attributes: Object.entries(resource).map(([key, stringValue]) => ({
                key,
                value: { stringValue },
              })),
            },
            scopeSpans: [
              { spans: [{ traceId: '0'.repeat(31) + 1, spanId: '0'.repeat(15) + 1, name, kind: 1 }] },
            ],
          },
        ],
      }),
    })
  ).status;
const delivered = async (priorityClass: string) => {
  const text = await (await fetch(`${running.admin}/metrics`)).text();
  return Number(
    new RegExp(
      `^exporter_delivered_items_total\\{signal="traces",class="${priorityClass}"\\} (\\d+)`,
      'm',
    ).exec(text)?.[1] ?? 0,
  );
};
/** Sends a span and waits until it is delivered as of this class. */
const arrivesAs = async (priorityClass: string, ...what: Parameters<typeof send>) => {
  const before = await delivered(priorityClass);
  expect(await send(...what)).toBe(200);
  await waitUntil(async () => (await delivered(priorityClass)) === before + 1, {
    what: `a span was delivered as ${priorityClass}`,
  });
};
const limiterOption = (name: string, expected: unknown) => async () => {
  const { options: inForce } = (await get('/api/limiter')) as { options: Record<string, unknown> };
  expect(inForce[name]).toEqual(expected);
};
const weight = (name: string, expected: number) => async () => {
  const { weights } = (await get('/api/scheduler')) as { weights: Record<string, number> };
  expect(weights[name]).toBe(expected);
};

const accountLimit = (of: string, limitPerMinute: number) => () =>
  waitUntil(
    async () => {
      const { account = [] } = (await get('/api/status')) as { account?: Record<string, unknown>[] };
      return account.some((one) => one.of === of && one.limitPerMinute === limitPerMinute);
    },
    { what: `the status has a limit of ${limitPerMinute} ${of}` },
  );

/** A new value for each live option, and how the running service shows that it goes by it. */
const LIVE: Record<string, [value: unknown, shown: () => Promise<unknown>]> = {
  'log.level': [
    'debug',
    async () => {
      mock.set({ errorRate: 1 });
      await send();
      await running.processes.up!.line(/"level":"debug".*"service":"exporter".*will retry/);
      mock.set({ errorRate: 0 });
    },
  ],
  'receiver.tokens': [
    ['new-token'],
    async () => {
      expect(await send()).toBe(401);
      expect(await send({}, 'a span', { authorization: 'Bearer new-token' })).toBe(200);
    },
  ],
  'priority.default_class': ['high', () => arrivesAs('high')],
  'priority.resource_attribute': ['team.class', () => arrivesAs('critical', { 'team.class': 'critical' })],
  'priority.rules': [[{ class: 'critical', span: 'checkout' }], () => arrivesAs('critical', {}, 'checkout')],
  'limiter.act_above': [0.25, limiterOption('actAbove', 0.25)],
  'limiter.aggregate_score': [0.6, limiterOption('aggregateScore', 0.6)],
  'limiter.critical_score': [0.95, limiterOption('criticalScore', 0.95)],
  'limiter.critical_action': ['drop', limiterOption('criticalAction', 'drop')],
  'limiter.key_ttl': ['5m', limiterOption('keyTtlMs', 300_000)],
  'limiter.aggregate_labels': [['pod'], limiterOption('aggregateLabels', ['pod'])],
  'limiter.protected_labels': [['host'], limiterOption('protectedLabels', ['host'])],
  'limiter.gauge_reducer': ['max', limiterOption('gaugeReducer', 'max')],
  'limiter.merge_interval': ['5s', limiterOption('mergeIntervalMs', 5_000)],
  'limiter.merged_temporality': ['delta', limiterOption('mergedTemporality', 'delta')],
  'limiter.daily_keys': [500, limiterOption('dailyKeys', 500)],
  'limiter.daily_mode': ['enforce', limiterOption('dailyMode', 'enforce')],
  'limiter.overrides': [
    [{ metric: 'a.*', act_above: 0.1 }],
    limiterOption('overrides', [{ metric: 'a.*', actAbove: 0.1 }]),
  ],
  'scheduler.weights.critical': [7, weight('critical', 7)],
  'scheduler.weights.high': [4, weight('high', 4)],
  'scheduler.weights.normal': [2, weight('normal', 2)],
  'exporter.headers': [
    { 'api-key': 'second-secret' },
    async () => {
      mock.set({ requireHeaders: { 'api-key': 'second-secret' } });
      await arrivesAs('normal');
      mock.set({ requireHeaders: {} });
    },
  ],
  'telemetry.otlp.headers': [
    { 'api-key': 'own-secret' },
    () => waitUntil(() => ownKey === 'own-secret', { what: 'own metrics come with the new key' }),
  ],
  'dlq.replay_rate': [
    '1MiB',
    async () => {
      const { replay } = (await get('/api/dlq')) as { replay: { bytesPerSecond: number } };
      expect(replay.bytesPerSecond).toBe(2 ** 20);
    },
  ],
  'exporter.account_limits.requests_per_minute': [7, accountLimit('requests', 7)],
  'exporter.account_limits.points_per_minute': [8, accountLimit('points', 8)],
  'exporter.account_limits.records_per_minute': [9, accountLimit('records', 9)],
  'exporter.account_limits.bytes_per_minute': ['1KiB', accountLimit('bytes', 1_024)],
  'check.fix': [
    true,
    async () => {
      expect(await send({ note: 'n'.repeat(5_000) })).toBe(200);
      const text = await (await fetch(`${running.admin}/metrics`)).text();
      expect(text).toContain('check_fixed_items_total{rule="attribute_value",signal="traces"} 1');
    },
  ],
  'check.sample': [
    0.5,
    async () => {
      expect(await get('/api/check')).toMatchObject({ sample: 0.5 });
    },
  ],
};

describe('live options', () => {
  it('are all tested here', () => {
    const live = options().filter(({ meta }) => meta.live);
    expect(Object.keys(LIVE).sort()).toEqual(live.map(({ path }) => path.join('.')).sort());
  });

  it.each(Object.entries(LIVE))('%s', async (path, [value, shown]) => {
    const applied = await post('/api/config/apply', at(path, value));
    expect(applied).toMatchObject({ status: 200, body: { changes: [{ path, live: true }] } });
    const { options: effective } = (await get('/api/config')) as {
      options: { path: string; source: string }[];
    };
    expect(effective.find((option) => option.path === path)?.source).toBe('applied while running');
    await shown();
    // The file is what counts again.
    expect((await post('/api/config/reload')).body.changes?.map((change) => change.path)).toEqual([path]);
    expect((await post('/api/config/reload')).body.changes).toEqual([]);
  });
});

describe('a change that cannot be applied', () => {
  it('is refused by name, and nothing else is applied', async () => {
    const changes = 'queue: {max_items: 77}\nscheduler: {weights: {high: 9}}\nreceiver: {max_depth: 10}\n';
    const preview = await post('/api/config/preview', changes);
    expect(preview.body).toMatchObject({
      applies: false,
      changes: [
        { path: 'receiver.max_depth', from: '64', to: '10', live: false },
        { path: 'queue.max_items', live: false },
        { path: 'scheduler.weights.high', from: '3', to: '9', live: true },
      ],
    });
    const refused = await post('/api/config/apply', changes);
    expect(refused.status).toBe(409);
    expect(refused.body.error).toMatchObject({ code: 'needs_restart' });
    expect(refused.body.error?.message).toMatch(
      /^receiver\.max_depth, queue\.max_items: .*nothing was applied$/,
    );
    await weight('high', 3)();
  });

  it('is reported with its name and the expectation if it is invalid', async () => {
    const wrong = async (changes: object | string) => {
      const { status, body } = await post('/api/config/apply', changes);
      return [status, body.error?.message];
    };
    expect(await wrong({ scheduler: { weights: { hgh: 4 }, poll: 'soon' } })).toEqual([
      400,
      expect.stringMatching(/scheduler\.weights\.hgh: .*did you mean high/),
    ]);
    expect(await wrong('scheduler: {weights: {high: 0}}')).toEqual([
      400,
      expect.stringMatching(/scheduler\.weights\.high: 0 — expected a whole number/),
    ]);
    // A score above the other: each is valid by itself.
    expect(await wrong({ limiter: { aggregate_score: 0.95 } })).toEqual([
      400,
      expect.stringMatching(/aggregate_score: expected at most limiter\.critical_score/),
    ]);
    expect(await wrong('a: [')).toEqual([400, expect.stringMatching(/changes:1: .*valid YAML/)]);
    expect(await wrong({ exporter: { headers: { x: '${file:/etc/passwd}' } } })).toEqual([
      400,
      expect.stringMatching(/exporter\.headers: expected the value itself/),
    ]);
    expect((await post('/api/config/apply')).status).toBe(400);
  });
});

describe('the file', () => {
  it('is read again on SIGHUP; an invalid one changes nothing; secrets are never shown', async () => {
    const file = join(dir.path, 'nrdot.yaml');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    config.scheduler = { weights: { critical: 6 } };
    config.log.level = 'info';
    writeFileSync(file, JSON.stringify(config));
    running.processes.up!.signal('SIGHUP');
    await running.processes.up!.line(/Configuration reloaded: log\.level, scheduler\.weights\.critical\./);
    await weight('critical', 6)();
    config.exporter.headers = { 'api-key': 'fourth-secret' };
    writeFileSync(file, JSON.stringify(config));
    running.processes.up!.signal('SIGHUP');
    await running.processes.up!.line(/Configuration reloaded: exporter\.headers/);
    writeFileSync(file, JSON.stringify({ ...config, scheduler: { weights: { critical: 8 }, slot: '1s' } }));
    running.processes.up!.signal('SIGHUP');
    await running.processes.up!.line(/Configuration not reloaded, nothing was applied: scheduler\.slot: /);
    writeFileSync(file, 'log: [');
    running.processes.up!.signal('SIGHUP');
    await running.processes.up!.line(/Configuration not reloaded, nothing was applied: .*nrdot\.yaml/);
    await weight('critical', 6)();
    const everything = JSON.stringify([
      await get('/api/config'),
      await get('/api/events'),
      await post('/api/config/preview', 'exporter: {headers: {api-key: third-secret}}'),
      running.processes.up!.output(1_000),
    ]);
    expect(everything).not.toMatch(/-secret|new-token/);
    expect(everything).toContain('[redacted]');
    // What a key was changed for is looked up in the history, days later.
    expect(everything).toMatch(/Configuration reloaded: exporter\.headers.*Configuration not reloaded/s);
  });
});
