import { CLASSES } from '@nrdot/queue';
import { describe, expect, it } from 'vitest';
import { findingsOf } from './findings.ts';
import { HISTORY_SAMPLES, History } from './history.ts';
import type { PipelineStatus } from './pipeline-status.ts';

const NOW = 1_000_000;
const amount = { batches: 0, items: 0, bytes: 0 };
const area = { items: 0, waitingBytes: 0, diskBytes: 0, segments: 0, oldestReceivedAt: 0 };

/** A pipeline where all is well. */
function well(): Omit<PipelineStatus, 'findings'> {
  const moved = { critical: 0, high: 0, normal: 0 };
  const classes = Object.fromEntries(
    CLASSES.map((c) => [
      c,
      {
        ...{ waiting: amount, replay: amount, exporting: amount, spilling: amount, fill: 0, spills: false },
        ...{ oldestAgeMs: 0, weight: 1, wantedShare: 1 / 3, achievedShare: 0 },
      },
    ]),
  ) as NonNullable<PipelineStatus['queue']>['classes'];
  return {
    at: NOW,
    redis: { usedBytes: 1, limitBytes: 100 },
    services: (['receiver', 'scheduler', 'exporter', 'dlq'] as const).map((service) => ({
      ...{ service, instance: 'host:1', ageMs: 500, upMs: 60_000, version: '0.1.0', rssBytes: 1 },
    })),
    rates: {
      ...{ requests: 1, refusedRequests: 0, received: 1, accepted: 1, limiterDropped: 0, moved },
      ...{ delivered: 1, stored: 0, replayed: 0 },
    },
    queue: { fill: 0, maxBytes: 1, maxItems: 1, items: 0, bytes: 0, classes, slot: 'live' },
    breaker: {
      ...{ state: 'closed', reason: '', sinceMs: 0, retryAtMs: 0, failures: 0, openedTotal: 0 },
      ...{
        openedByReason: { failures: 0, quota: 0, auth: 0 },
        halfOpenedTotal: 0,
        closedTotal: 0,
        throttledShare: 0,
      },
    },
    exporter: { upstream: 'up', inflight: 0, concurrency: 1, retries: 0 },
    dlq: {
      ...{
        state: 'ok',
        diskBytes: 0,
        capacityBytes: 1_000,
        segments: [],
        segmentsLeftOut: 0,
        quarantinedBytes: 0,
      },
      areas: { critical: area, high: area, normal: area, rejected: area },
      replay: { paused: false, outstanding: 0, bytesPerSecond: 10, drainSeconds: 90, replayedItems: 0 },
    },
    books: { accepted: 5, delivered: 5, queued: 0, on_disk: 0, rejected: 0, dropped: 0, difference: 0 },
    differenceMs: 60_000,
  };
}

const codes = (change: (status: ReturnType<typeof well>) => void) => {
  const status = well();
  change(status);
  return findingsOf(status).map(({ level, code }) => `${level} ${code}`);
};

describe('what there is to say about a pipeline', () => {
  it('is that all is well, when it is', () => {
    expect(codes(() => {})).toEqual(['ok ok']);
  });

  it('names why delivery waits, what the upstream said last, and when it is tried again', () => {
    const status = well();
    Object.assign(status.breaker!, { state: 'open', reason: 'failures', retryAtMs: NOW + 12_000 });
    status.exporter!.lastProblem = { at: NOW - 1_000, reason: 'connection', message: 'ECONNREFUSED' };
    status.dlq!.areas.high = { ...area, items: 1_500, oldestReceivedAt: NOW - 300_000 };
    const [first, second] = findingsOf(status);
    expect(first).toMatchObject({
      ...{ level: 'warning', code: 'breaker_open' },
      text: 'Delivery is paused: the upstream fails — ECONNREFUSED.',
      more: expect.stringMatching(/^Nothing is lost: .* Next try in 12 s\.$/),
    });
    expect(second).toMatchObject({
      ...{ level: 'note', code: 'on_disk', text: '1,500 items are on disk, the oldest for 5 min.' },
      more: 'Then they come back, in about 90 s.',
    });
  });

  it.each<[string, (status: ReturnType<typeof well>) => void]>([
    [
      'fault redis_away',
      (s) => Object.assign(s, { redis: { problem: 'refused' }, services: [], queue: undefined }),
    ],
    ['warning redis_memory', (s) => Object.assign(s.redis, { usedBytes: 96 })],
    ['warning service_silent', (s) => Object.assign(s.services[0]!, { ageMs: 8_000 })],
    ['fault no_exporter', (s) => s.services.splice(2, 1)],
    ['fault breaker_open', (s) => Object.assign(s.breaker!, { state: 'open', reason: 'auth' })],
    ['warning breaker_half_open', (s) => Object.assign(s.breaker!, { state: 'half_open', reason: 'quota' })],
    ['fault dlq_refuses', (s) => Object.assign(s.dlq!, { state: 'disk_full', fault: 'ENOSPC' })],
    ['warning dlq_filling', (s) => Object.assign(s.dlq!, { diskBytes: 900 })],
    ['warning dlq_damaged', (s) => Object.assign(s.dlq!, { quarantinedBytes: 1 })],
    ['note rejected', (s) => Object.assign(s.dlq!.areas, { rejected: { ...area, items: 3 } })],
    ['warning spilling', (s) => Object.assign(s.queue!.classes.normal, { spills: true })],
    ['warning refusing', (s) => Object.assign(s.rates, { refusedRequests: 2 })],
    ['warning dropped', (s) => Object.assign(s.books!, { dropped: 7 })],
    ['fault books_differ', (s) => Object.assign(s.books!, { difference: 7 })],
    [
      'warning limiter_drops',
      (s) =>
        Object.assign(s, {
          rates: { ...s.rates, limiterDropped: 5 },
          limiter: {
            ...{ mode: 'enforce', keysUsed: 1, keysLimit: 1, maxKeys: 1, points: 1 },
            topLabels: [],
          },
        }),
    ],
  ])('is %s when it is so', (expected, change) => {
    expect(codes(change)).toEqual([expected]);
  });

  it('is silent about items between two places, and puts the gravest first', () => {
    expect(
      codes((s) => Object.assign(s, { differenceMs: 900, books: { ...s.books, difference: 7 } })),
    ).toEqual(['ok ok']);
    expect(
      codes((s) => {
        Object.assign(s.dlq!.areas, { rejected: { ...area, items: 3 } });
        Object.assign(s.rates, { refusedRequests: 2 });
        s.services.splice(2, 1);
      }),
    ).toEqual(['fault no_exporter', 'warning refusing', 'note rejected']);
  });
});

describe('the last fifteen minutes', () => {
  it('are columns of one length, bounded, with nothing where nothing was known', async () => {
    let at = 0;
    const history = new History(async () => {
      at += 5_000;
      const { queue, ...status } = well();
      return { ...status, ...(at > 10_000 ? { queue } : {}), at, findings: [] } as PipelineStatus;
    });
    history.stop();
    for (let i = 0; i < 4; i++) await history.sample();
    expect(history.columns().columns.fill).toEqual([null, null, 0, 0]);
    expect(history.columns().at).toEqual([5_000, 10_000, 15_000, 20_000]);
    for (let i = 0; i < HISTORY_SAMPLES; i++) await history.sample();
    const { at: times, columns } = history.columns();
    expect(times).toHaveLength(HISTORY_SAMPLES);
    expect(new Set(Object.values(columns).map((column) => column.length))).toEqual(
      new Set([HISTORY_SAMPLES]),
    );
    expect(times.at(-1)).toBe(at);
  });
});
