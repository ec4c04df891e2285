/** `nrdot doctor` as people call it: silent about a pipeline that works, and what it mends is delivered. */
import { join } from 'node:path';
import type { Diagnosis } from '@nrdot/queue';
import {
  generate,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { expect, it } from 'vitest';
import { accounting, startOne, startServices, untilQuiet } from '../kit.ts';

const LOAD = {
  batchSize: 10,
  connections: 4,
  signals: { traces: 1, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
} as const;

/** Runs the command to its end. */
async function doctor(
  dir: string,
  admin: string,
  ...flags: string[]
): Promise<{ code: number; output: string }> {
  await using child = startNrdot(['doctor', '--admin', admin, ...flags], {}, dir);
  const code = await new Promise<number>((resolve) =>
    child.child.once('close', (status) => resolve(status ?? -1)),
  );
  return { code, output: child.output(5_000) };
}

it('finds nothing in a pipeline under load, through an outage, a spill and a replay', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startOne(dir.path, mock, { dlq: { replay_rate: '4MiB' } });
  const enough = new AbortController();
  const load = generate({ ...LOAD, endpoint: running.otlp, rate: 500 }, { finish: enough.signal });
  const asked: Diagnosis[] = [];
  const ask = async () =>
    void asked.push((await (await fetch(`${running.admin}/api/doctor`)).json()) as Diagnosis);
  try {
    await waitUntil(() => mock.stats().items > 500, { what: 'traffic flows' });
    for (let i = 0; i < 3; i++) await ask();
    mock.set({ outage: true });
    await waitUntil(async () => (await accounting(running.admin)).on_disk > 0, { what: 'it spills' });
    for (let i = 0; i < 3; i++) await ask();
    mock.set({ outage: false });
    await waitUntil(
      async () => {
        await ask();
        return (await accounting(running.admin)).on_disk === 0;
      },
      { what: 'the disk is empty', timeoutMs: 180_000 },
    );
    // On a machine that stands still now and then a queue may move faster than it is read.
    const examined = ({ damage }: Diagnosis) => damage.every(({ kind }) => kind !== 'not_examined');
    expect(asked.filter(examined).flatMap(({ damage }) => damage)).toEqual([]);
    expect(asked.filter(examined).some(({ jobs }) => jobs > 0)).toBe(true);
    enough.abort();
    await load;
    await untilQuiet(running.admin, 120_000);
    expect(await doctor(dir.path, running.admin)).toEqual({
      code: 0,
      output: expect.stringMatching(/^Nothing is off: .*The books balance\.$/m),
    });
  } finally {
    enough.abort();
    await load;
    await mock.close();
  }
});

it('finds and repairs each kind of damage under traffic, and all deliverable data is delivered', async () => {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startServices(dir.path, redis, mock, {}, { exporters: 0 });
  const client = new Redis(redis.url);
  const key = (name: string) => `{nrdot}:${name}`;
  try {
    const { acknowledged } = await generate({ ...LOAD, endpoint: running.otlp, rate: 0, items: 3_000 });
    expect(acknowledged.count).toBe(3_000);
    await waitUntil(async () => (await client.llen(key('export:wait'))) > 10, { what: 'the window is full' });
    const [orphan = '', unlisted = '', lost = '', away = ''] = await client.lrange(key('normal:wait'), 2, 5);
    // By hand: a job is removed with its hash, one from its list alone, a payload is gone, a job is in the failed set.
    await client.lrem(key('normal:wait'), 1, orphan);
    await client.del(key(`normal:${orphan}`));
    await client.lrem(key('normal:wait'), 1, unlisted);
    await client.del(key(`payload:${lost}`));
    await client.lrem(key('normal:wait'), 1, away);
    await client.zadd(key('normal:failed'), Date.now(), away);
    await client.hincrby(key('depth'), 'queued:critical:items', 12_345);
    await client.hset(key('breaker:traces'), { failures: 'many', retry_at: '' });
    await client.hset(key('high:somebody'), { data: '{}', opts: '{}' });
    await client.zadd(key('high:delayed'), 1, 'somebody');
    const trickle = new AbortController();
    const load = generate({ ...LOAD, endpoint: running.otlp, rate: 100 }, { finish: trickle.signal });

    const found = await doctor(dir.path, running.admin, '--json');
    expect(found.code).toBe(4);
    const { damage } = JSON.parse(found.output) as Diagnosis;
    expect(damage.map(({ kind, count }) => `${kind} ${count}`).sort()).toEqual([
      'depth 1',
      'job_out_of_sight 1',
      'job_without_payload 1',
      'no_number 2',
      'odd_job 1',
      'payload_without_job 1',
      'stray_job 1',
    ]);
    const mended = await doctor(dir.path, running.admin, '--repair');
    expect(mended.output).toMatch(/Everything was repaired\./);
    expect(mended.output).toMatch(/books \(repaired\): 10 accepted items are missing/);
    expect(mended.code).toBe(0);
    // What was put away is a note.
    const after = await doctor(dir.path, running.admin);
    expect(after.output).toMatch(
      /put_away \(note\): A job is not part of the pipeline[\s\S]*The books balance\. No action is needed\./,
    );
    expect(after.code).toBe(0);
    trickle.abort();
    const more = (await load).acknowledged.count;

    await using exporter = startNrdot(
      ['exporter', '--config', join(dir.path, 'nrdot.yaml'), '--upstream', mock.url],
      {},
      dir.path,
    );
    void exporter;
    const books = await untilQuiet(running.admin);
    expect(books).toMatchObject({
      accepted: 3_000 + more,
      delivered: 2_990 + more,
      dropped: 10,
      difference: 0,
    });
    expect(mock.stats().items).toBe(2_990 + more);
    const { events } = (await (await fetch(`${running.admin}/api/events`)).json()) as {
      events: { subject: string }[];
    };
    expect(events.some(({ subject }) => subject === 'doctor')).toBe(true);
  } finally {
    client.disconnect();
    await mock.close();
  }
});

it('reports what prevents it: no scheduler, or another running doctor', async () => {
  using dir = temporaryDirectory();
  expect(await doctor(dir.path, '127.0.0.1:9')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/nothing answers at/),
  });
  await using redis = await TestRedis.start({ dir: dir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  await using running = await startServices(dir.path, redis, mock, {}, { exporters: 0, receivers: 0 });
  const client = new Redis(redis.url);
  await client.set('{nrdot}:doctor', 'another', 'PX', 60_000);
  client.disconnect();
  expect(await doctor(dir.path, running.admin)).toMatchObject({
    code: 1,
    output: expect.stringMatching(/another doctor is running/),
  });
  await mock.close();
});
