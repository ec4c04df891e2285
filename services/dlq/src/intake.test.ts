import { gzipSync } from 'node:zlib';
import { type JobData, keysOf, WakeSignal } from '@nrdot/queue';
import { SegmentLog, SegmentLogError } from '@nrdot/segment-log';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { expect, it, vi } from 'vitest';
import { options, seeded } from '../../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../../shared/segment-log/test/simulated-disk.ts';
import { takeDirectly } from './direct-intake.ts';
import { Intake, type IntakeDeps, type Spilled, spilledOf } from './intake.ts';
import { Ledger } from './ledger.ts';

const MIB = 2 ** 20;

it('holds no more decompressed bytes at once than it may, however many small payloads come', async () => {
  const held = { bytes: 0, most: 0 };
  const intake = new Intake({
    ...{ maxBodyBytes: 64 * MIB, maxInflightBytes: 10 * MIB, concurrency: 1, changed: () => {} },
    unsettled: new Set(),
    store: { keys: keysOf('{test}'), take: () => new Promise(() => {}) },
    wakeSignal: new WakeSignal(),
    log: createLogger({ level: 'silent', format: 'json' }),
    metrics: new MetricsRegistry(['dlq']).metrics,
    segments: {
      lastIds: new Set(),
      append: async (_area: string, { payload }: { payload: Buffer }) => {
        held.bytes += payload.byteLength;
        held.most = Math.max(held.most, held.bytes);
        await new Promise((resolve) => setTimeout(resolve, 20));
        held.bytes -= payload.byteLength;
      },
    },
  } as unknown as IntakeDeps);
  const payload = gzipSync(Buffer.alloc(4 * MIB));
  const batch = {
    signal: 'logs',
    class: 'normal',
    items: 1,
    encoding: 'gzip',
    receivedAt: 0,
    reason: 'x',
    payload,
  };
  const written = await Promise.all(
    Array.from({ length: 12 }, (_, i) => intake.write({ ...batch, id: `b${i}` } as Spilled)),
  );
  expect(written.every(({ fresh }) => fresh)).toBe(true);
  expect(held.most).toBe(8 * MIB);
});

/** What becomes of these jobs of the spill queue while the disk is full. */
function refused(jobs: Partial<JobData>[], refusals = 0) {
  const batches = [{ key: 'b1', items: 1, bytes: 3, receivedAt: 0 }];
  const of = { signal: 'logs', class: 'normal', origin: 'live', encoding: 'identity' } as const;
  const taken = jobs.map((more, i) => ({
    ...{ id: `b${i}`, attempts: refusals, payloads: [Buffer.from('abc')], epoch: '' },
    data: JSON.stringify({ ...of, items: 1, bytes: 3, batches, ...more }),
  }));
  const takeBack = vi.fn(async () => true);
  const hows: unknown[] = [];
  const released = Promise.withResolvers<unknown[]>();
  const answer = { jobs: taken, waiting: 0, nextInMs: -1, heldBack: 0, mayDefer: false };
  new Intake({
    ...{ maxBodyBytes: MIB, maxInflightBytes: MIB, concurrency: jobs.length, changed: () => {} },
    unsettled: new Set(),
    store: {
      keys: keysOf('{test}'),
      take: vi.fn(() => new Promise(() => {})).mockResolvedValueOnce(answer as never),
      takeBack,
      release: async (_lock: unknown, how: unknown) => {
        if (hows.push(how) === jobs.length) released.resolve(hows);
      },
    },
    wakeSignal: new WakeSignal(),
    log: createLogger({ level: 'silent', format: 'json' }),
    metrics: new MetricsRegistry(['dlq']).metrics,
    segments: { lastIds: new Set(), append: () => Promise.reject(new SegmentLogError('full', 'no room')) },
  } as unknown as IntakeDeps);
  return { released: released.promise, takeBack };
}

const REJECTED = { reason: 'rejected:status_400' };
const FAILED = { reason: 'retries_exhausted', attempts: 4 };
it.each<[what: string, isReturned: boolean, refusals: number, job: Partial<JobData>]>([
  ['waits only for the upstream', true, 0, { reason: 'breaker:failures' }],
  ['exporters have tried, and the disk has refused now and then', false, 9, FAILED],
  ['exporters have tried, and the disk has refused for long', true, 10, FAILED],
  ['the upstream has rejected, and the disk has refused now and then', false, 9, REJECTED],
  ['the upstream has rejected, and the disk has refused for long', true, 10, REJECTED],
])(
  'a batch that a full disk refuses, which %s, returns to its class queue: %s',
  async (_, isReturned, refusals, more) => {
    const { released, takeBack } = refused([more], refusals);
    const delayMs = more === REJECTED ? 6_000 : 1_000;
    expect(await released).toEqual([isReturned ? 'done' : delayMs]);
    expect(takeBack).toHaveBeenCalledTimes(isReturned ? 1 : 0);
  },
);

it('tries many batches that a full disk has refused at a bounded rate', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const { released } = refused([FAILED, FAILED, FAILED]);
    expect(await released).toEqual([1_000, 1_005, 1_010]);
  } finally {
    vi.useRealTimers();
  }
});

/** More blocks than a start reads for their ids. */
const DIRECT = 70;
it.each([
  ['before they came', true],
  ['after they came', false],
])(
  'a batch that was written as Redis went away is not written again, whatever receivers sent; the dlq was killed %s',
  async (_, isKilledFirst) => {
    const disk = new SimulatedDisk(seeded(1));
    const batches = [{ key: 'b1', items: 1, bytes: 3, receivedAt: 1_000 }];
    const of = {
      signal: 'logs',
      class: 'normal',
      origin: 'live',
      encoding: 'identity',
      reason: 'x',
    } as const;
    const data = JSON.stringify({ ...of, items: 1, bytes: 3, batches });
    const job = { id: 'b1', data, attempts: 0, payloads: [Buffer.from('abc')], epoch: '' };
    const log = createLogger({ level: 'silent', format: 'json' });
    /** A dlq that gets the job if Redis is there, and whose settlement of it may fail. */
    const start = async (settle?: () => Promise<number>) => {
      const { o } = options(disk);
      await o.fs.mkdir(o.dir);
      const ledger = await Ledger.open(o.dir, o.fs);
      const segments = await SegmentLog.open(o);
      await ledger.conclude(segments.lastIds);
      const taken = { jobs: [job], waiting: 0, nextInMs: -1, heldBack: 0, mayDefer: false };
      const take = vi.fn(() => new Promise<unknown>(() => {}));
      if (settle) take.mockResolvedValueOnce(taken);
      const intake = new Intake({
        ...{ maxBodyBytes: MIB, maxInflightBytes: MIB, concurrency: 1, changed: () => {} },
        store: { keys: keysOf('{test}'), take, settle, release: async () => {} },
        ...{ wakeSignal: new WakeSignal(), log, segments, unsettled: ledger.unsettled },
        metrics: new MetricsRegistry(['dlq']).metrics,
      } as unknown as IntakeDeps);
      return { intake, ledger, segments };
    };
    const failing = vi.fn(() => Promise.reject(new Error('Connection is closed.')));
    let dlq = await start(failing);
    await vi.waitFor(() => expect(failing).toHaveBeenCalled());
    if (isKilledFirst) dlq = await start();
    for (let i = 0; i < DIRECT; i++) {
      const payload = Buffer.from('direct');
      const direct = { ...of, id: `d${i}`, items: 1, receivedAt: 1_000, payload };
      await takeDirectly(direct, dlq.intake, dlq.ledger, log);
      await dlq.segments.maintain(); // seals what the kill left open
    }
    const settle = vi.fn(async () => 1);
    dlq = await start(settle);
    await vi.waitFor(() => expect(settle).toHaveBeenCalled());
    expect(dlq.segments.stats('normal').records).toBe(DIRECT + 1);
    expect([...dlq.ledger.unsettled]).not.toContain('b1');
  },
);

it.each([
  [{}, { reason: 'unknown' }],
  [{ reason: 'fill', status: 503, message: 'later', attempts: 2 }, undefined],
  [{ reason: 5, status: '400', message: { a: 1 } }, { reason: 'unknown' }],
  [{ reason: null, status: null, message: null }, { reason: 'unknown' }],
])('writes no reason of a wrong type, which a reader would take for damage: %j', (given, kept) => {
  const batch = { key: 'b1', items: 1, bytes: 3, receivedAt: 0 };
  const job = { signal: 'logs', class: 'normal', encoding: 'identity', batches: [batch], ...given };
  const payload = Buffer.from('abc');
  expect(spilledOf(job as unknown as JobData, batch, payload)).toEqual({
    ...{ id: 'b1', signal: 'logs', class: 'normal', items: 1, encoding: 'identity', receivedAt: 0, payload },
    ...(kept ?? given),
  });
});
