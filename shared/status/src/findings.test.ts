import { readFileSync } from 'node:fs';
import { CLASSES } from '@nrdot/queue';
import { describe, expect, it } from 'vitest';
import {
  FINDING_CODES,
  type Finding,
  findingsOf,
  type Known,
  leftText,
  lossText,
  nextTryText,
  summaryOf,
  withoutRepeats,
} from './findings.ts';
import { HISTORY_SAMPLES, History } from './history.ts';
import type { PipelineStatus } from './pipeline-status.ts';
import type { ServiceName } from './process-status.ts';
import { stateText } from './service-state.ts';

const NOW = 1_000_000_000;
const MIB = 1024 * 1024;
const amount = () => ({ batches: 0, items: 0, bytes: 0 });
const area = () => ({ items: 0, waitingBytes: 0, diskBytes: 0, segments: 0, oldestReceivedAt: 0 });

/** A pipeline where all is well. */
function well(): Known {
  const classes = Object.fromEntries(
    CLASSES.map((c) => [
      c,
      {
        ...{ waiting: amount(), replay: amount(), exporting: amount(), spilling: amount() },
        ...{ fill: 0, spills: false, oldestAgeMs: 0, weight: 1, wantedShare: 1 / 3, achievedShare: 0 },
      },
    ]),
  ) as NonNullable<PipelineStatus['queue']>['classes'];
  return {
    at: NOW,
    redis: { usedBytes: MIB, limitBytes: 100 * MIB },
    services: (['receiver', 'scheduler', 'exporter', 'dlq'] as const).map((service) => ({
      ...{
        service,
        instance: 'host:1',
        ageMs: 500,
        upMs: 60_000,
        version: '0.1.0',
        rssBytes: 1,
        state: 'ready',
      },
    })),
    rates: {
      ...{ requests: 1, refusedRequests: 0, received: 1, accepted: 1, limiterDropped: 0, dropped: 0 },
      ...{ delivered: 1, stored: 0, replayed: 0, moved: { critical: 0, high: 0, normal: 0 } },
    },
    queue: { fill: 0.1, maxBytes: 1, maxItems: 1, items: 0, bytes: 0, classes, slot: 'live' },
    breakers: (['traces', 'metrics', 'logs', 'profiles'] as const).map((signal) => ({
      ...{ signal, state: 'closed', reason: '', sinceMs: NOW - 42_000, retryAtMs: 0, failures: 0 },
      ...{ openedTotal: 0, openedByReason: { failures: 0, quota: 0, auth: 0, place: 0 }, said: '' },
      // Nobody has ever sent profiles.
      ...{ halfOpenedTotal: 0, closedTotal: 0, okTotal: signal === 'profiles' ? 0 : 9, throttledShare: 0 },
    })),
    exporter: { upstream: 'up', inflight: 0, concurrency: 1, retries: 0 },
    dlq: {
      ...{ state: 'ok', diskBytes: 0, capacityBytes: 1_000 * MIB, segments: [], segmentsLeftOut: 0 },
      ...{ quarantinedBytes: 0, retentionMs: 72 * 3_600_000 },
      disk: { freeBytes: 900 * MIB, totalBytes: 1_000 * MIB, reserveBytes: 64 * MIB },
      areas: { critical: area(), high: area(), normal: area(), rejected: area() },
      replay: { paused: false, outstanding: 0, bytesPerSecond: 10, drainSeconds: 0, replayedItems: 0 },
    },
    books: {
      ...{
        accepted: 120_000,
        delivered: 120_000,
        queued: 0,
        on_disk: 0,
        rejected: 0,
        dropped: 0,
        difference: 0,
      },
    },
    differenceMs: 60_000,
    dropped: {},
    lately: {},
  };
}

type Change = (status: Known) => void;

function opened(reason: string, said: string, signals = ['traces', 'metrics', 'logs']): Change {
  return (s) => {
    for (const breaker of s.breakers!.filter(({ signal }) => signals.includes(signal)))
      Object.assign(breaker, { state: 'open', reason, said, retryAtMs: NOW + 12_000 });
  };
}

const onDisk: Change = (s) => {
  const { oldestReceivedAt: oldest } = s.dlq!.areas.high;
  const oldestReceivedAt = Math.min(oldest || NOW, NOW - 300_000);
  Object.assign(s.dlq!.areas.high, { items: 1_500, oldestReceivedAt, waitingBytes: 90 });
  s.dlq!.replay.drainSeconds = 9;
};
const rejected = (items: number) => (s: Known) => {
  s.dlq!.areas.rejected.items = items;
  s.books!.rejected = items;
};
const dropped = (items: number, reason: string) => (s: Known) => {
  s.books!.dropped += items;
  s.dropped = { ...s.dropped, [reason]: items };
};
const both =
  (...changes: Change[]): Change =>
  (s) => {
    for (const change of changes) change(s);
  };

/** Each thing that can be the matter: what is said of it alone. A finding without a row here has no test. */
const STATES: Record<
  string,
  { change: Change; codes: string[]; data: string; lost?: string; sentences: string[] }
> = {
  'Redis is away': {
    change: (s) => {
      const address = 'redis://r:6379';
      s.redis = { address, problem: `Redis at ${address}: connection refused by 10.0.0.1:6379` };
      for (const part of ['queue', 'books', 'breakers', 'dropped', 'lately', 'differenceMs'] as const)
        delete s[part];
    },
    codes: ['fault redis_away'],
    data: "Redis is unreachable (its data is in its AOF), 0 on disk. Receivers accept new data: it goes straight to the dlq's disk.",
    lost: 'Whether anything was lost is unknown without Redis, which has the accounting.',
    sentences: [
      'Redis cannot be used: Redis at redis://r:6379: connection refused by 10.0.0.1:6379. Receivers accept new data: it goes straight to the dlq\'s disk. → Start Redis again (redis://r:6379) with its AOF; never start an empty one in its place. "redis-cli -u redis://r:6379 ping" shows whether it answers. docs/operations.md#nrdotredisaway',
    ],
  },
  'Redis is nearly out of memory': {
    change: (s) => void (s.redis.usedBytes = 96 * MIB),
    codes: ['warning redis_memory'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      "Redis uses 96 % of its memory (96.0 MiB of 100 MiB). Data that does not fit goes to disk. → Raise Redis' maxmemory, or lower queue.max_bytes.",
    ],
  },
  'Redis has lost what it held': {
    change: (s) => {
      s.redis.lost = { at: NOW - 30_000, items: 12, seenAt: NOW - 32_000 };
      s.books!.delivered -= 12;
      dropped(12, 'redis_lost')(s);
    },
    codes: ['fault redis_lost'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: '12 of 120,000 accepted items were dropped: 12 redis_lost. All others are accounted for.',
    sentences: [
      'Redis lost its data 30 s ago: 12 accepted items that were only there are lost, and counted as dropped (redis_lost). What it accepted in the 2 s since its last snapshot is unknown. Data on disk is intact. → Find the cause: a lost volume, FLUSHALL, or another server under its name. docs/redis.md, "When Redis loses its data".',
    ],
  },
  'Redis came back with an older state': {
    change: (s) => void (s.redis.olderAt = NOW - 30_000),
    codes: ['fault redis_older'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: 'All that Redis knows of is accounted for, but it came back with an older state.',
    sentences: [
      'Redis came back with an older state 30 s ago: what it had accepted just before may be lost, and what was delivered just before may be delivered twice. → "nrdot doctor --repair" corrects the accounting. redis.min_replicas prevents it at a failover: docs/redis.md, "When Redis fails over".',
    ],
  },
  'a service is silent': {
    change: (s) => void (s.services[1]!.ageMs = 8_000),
    codes: ['warning service_silent'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The scheduler at host:1 has not reported for 8 s. → Check that it runs and can reach Redis; its log has the reason.',
    ],
  },
  'no receiver runs': {
    change: (s) => void (s.services = s.services.filter(({ service }) => service !== 'receiver')),
    codes: ['fault no_receiver'],
    data: '0 items in Redis, 0 on disk. No data arrives: no receiver is running.',
    sentences: [
      'No receiver is running. Clients get no answer, and keep their data for as long as they can. → Start one: "nrdot receiver", or "nrdot up" for all four.',
    ],
  },
  'no exporter runs': {
    change: (s) => {
      s.services = s.services.filter(({ service }) => service !== 'exporter');
      delete s.exporter;
    },
    codes: ['fault no_exporter'],
    data: '0 items in Redis, 0 on disk. New data waits in Redis (10 % full); no exporter is running.',
    sentences: [
      'No exporter is running. Nothing is delivered. → Start one: "nrdot exporter", or "nrdot up" for all four.',
    ],
  },
  'two dlqs run': {
    change: (s) => void s.services.push({ ...s.services[3]!, instance: 'other:1' }),
    codes: ['fault several_dlqs'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      '2 dlqs run with one Redis and one prefix: host:1, other:1. The accounting has the disk of only one of them at a time. → Stop all but one, or give the other pipeline a redis.prefix of its own. A dlq that is started again on its disk replays what is there.',
    ],
  },
  'no dlq runs': {
    change: (s) => {
      s.services = s.services.filter(({ service }) => service !== 'dlq');
      delete s.dlq;
    },
    codes: ['fault no_dlq'],
    data: '0 items in Redis, an unknown number on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'No dlq is running. Data to be spilled waits in Redis (10 % full), and data on disk stays there. → Start one: "nrdot dlq", or "nrdot up" for all four.',
    ],
  },
  'the upstream fails': {
    change: opened('failures', 'cannot resolve otlp.example'),
    codes: ['warning breaker_open'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the upstream fails — cannot resolve otlp.example. New data goes to disk. → "nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
    ],
  },
  'the upstream throttles': {
    change: opened('quota', 'too many requests'),
    codes: ['warning breaker_open'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the upstream throttles (429) — too many requests. New data goes to disk. → Ask the upstream for a higher limit, or send less.',
    ],
  },
  'the upstream refuses the key': {
    change: opened('auth', 'Forbidden'),
    codes: ['fault breaker_open'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the upstream refuses the key (401 or 403) — Forbidden. New data goes to disk. → Set the right key in exporter.headers, then "nrdot reload".',
    ],
  },
  'the address is wrong': {
    change: opened('place', 'http://up/v1/traces answered 404 Not Found'),
    codes: ['fault breaker_open'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the address does not answer like an upstream — http://up/v1/traces answered 404 Not Found. New data goes to disk. → Set the right exporter.endpoint (the base URL, such as https://otlp.nr-data.net), or exporter.proxy if a proxy answers, and restart.',
    ],
  },
  'the upstream is being tried': {
    change: both(
      opened('failures', 'connection refused'),
      (s) => void (s.breakers!.find(({ signal }) => signal === 'metrics')!.state = 'half_open'),
    ),
    codes: ['warning breaker_half_open'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the upstream fails — connection refused. New data goes to disk. → "nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
    ],
  },
  'the upstream refuses one signal': {
    change: opened('auth', 'no scope for logs', ['logs']),
    codes: ['fault breaker_open'],
    data: '0 items in Redis, 0 on disk. New logs go to disk; other signals go to Redis, then to the upstream.',
    sentences: [
      'Delivery of logs has been paused for 42 s: the upstream refuses the key (401 or 403) — no scope for logs. New logs go to disk; other signals go to Redis, then to the upstream. → Set the right key in exporter.headers, then "nrdot reload".',
    ],
  },
  'the upstream fails for two signals': {
    change: opened('failures', 'connection refused', ['traces', 'metrics']),
    codes: ['warning breaker_open'],
    data: '0 items in Redis, 0 on disk. New traces and metrics go to disk; other signals go to Redis, then to the upstream.',
    sentences: [
      'Delivery of traces and metrics has been paused for 42 s: the upstream fails — connection refused. New traces and metrics go to disk; other signals go to Redis, then to the upstream. → "nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
    ],
  },
  'the upstream may be tried, and nothing waits by which': {
    change: both(opened('failures', 'connection refused'), (s) => {
      for (const breaker of s.breakers!) breaker.retryAtMs = NOW;
      s.queue!.items = 0;
      s.dlq!.replay.paused = true;
    }),
    codes: ['warning breaker_open', 'note replay_paused'],
    data: '0 items in Redis, 0 on disk. New data goes to disk.',
    sentences: [
      'Delivery has been paused for 42 s: the upstream fails — connection refused. New data goes to disk. → "nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
      'Replay was paused by an operator; nothing is on disk. → Run "nrdot dlq resume" once the reason for the pause is gone.',
    ],
  },
  'the disk is full': {
    change: (s) =>
      void Object.assign(s.dlq!, {
        state: 'disk_full',
        fault: 'its disk has 12.0 MiB free, and dlq.reserve keeps 64.0 MiB of them free',
      }),
    codes: ['fault dlq_refuses'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The disk accepts nothing: its disk has 12.0 MiB free, and dlq.reserve keeps 64.0 MiB of them free. Data to be spilled waits in Redis (10 % full); when that is full, clients get 503 and keep their data. → Free space on that disk; the dlq then accepts data again by itself.',
    ],
  },
  'the dlq is at its capacity': {
    change: (s) => void Object.assign(s.dlq!, { state: 'full', fault: 'the dlq is at its capacity' }),
    codes: ['fault dlq_refuses'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The disk accepts nothing: the dlq is at its capacity. Data to be spilled waits in Redis (10 % full); when that is full, clients get 503 and keep their data. → Raise dlq.capacity, or drain the dlq: end the outage, or raise dlq.replay_rate.',
    ],
  },
  'the dlq fills': {
    change: (s) => void (s.dlq!.diskBytes = 900 * MIB),
    codes: ['warning dlq_filling'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The dlq has room for 100 MiB more: it holds 900 MiB of 1000 MiB (dlq.capacity), 900 MiB free on its disk. → Stop what fills it, or make room: raise dlq.capacity, and enlarge the disk with it.',
    ],
  },
  'something else fills the disk': {
    change: (s) => void (s.dlq!.disk!.freeBytes = 70 * MIB),
    codes: ['warning dlq_filling'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The dlq has room for 6.0 MiB more: it holds 0 B of 1000 MiB (dlq.capacity), 70.0 MiB free on its disk. → Stop what fills it, or make room: raise dlq.capacity, and enlarge the disk with it.',
    ],
  },
  'something on disk is damaged': {
    change: (s) => void (s.dlq!.quarantinedBytes = 2 * MIB),
    codes: ['warning dlq_damaged'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'Data on disk is damaged. 2.0 MiB of unreadable data is kept in quarantine; items lost with it are counted as dropped (corrupted). → "nrdot dlq verify" shows what and where; check disk and memory.',
    ],
  },
  'data on disk is about to expire': {
    change: both(onDisk, (s) => void (s.dlq!.areas.high.oldestReceivedAt = NOW - 71 * 3_600_000)),
    codes: ['warning expiring', 'note on_disk'],
    data: '0 items in Redis, 1,500 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The oldest data on disk will be dropped in 60 min (dlq.retention). → Raise dlq.retention and restart the dlq, or save the data with "nrdot dlq export".',
      '1,500 items are on disk, the oldest for 71.0 h. Data on disk is being replayed; this takes about 9 s at the present rate.',
    ],
  },
  'replay is paused, with data on disk': {
    change: both(onDisk, (s) => void (s.dlq!.replay.paused = true)),
    codes: ['warning replay_paused'],
    data: '0 items in Redis, 1,500 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'Replay was paused by an operator; 1,500 items are on disk, the oldest for 5 min. → Run "nrdot dlq resume" once the reason for the pause is gone.',
    ],
  },
  'replay is paused': {
    change: (s) => void (s.dlq!.replay.paused = true),
    codes: ['note replay_paused'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'Replay was paused by an operator; nothing is on disk. → Run "nrdot dlq resume" once the reason for the pause is gone.',
    ],
  },
  'data is on disk': {
    change: onDisk,
    codes: ['note on_disk'],
    data: '0 items in Redis, 1,500 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      '1,500 items are on disk, the oldest for 5 min. Data on disk is being replayed; this takes about 9 s at the present rate.',
    ],
  },
  'everything is rejected': {
    change: both(rejected(700), (s) => {
      s.lately = { rejectedMs: 1_000, allRejected: true };
      s.exporter!.lastProblem = { at: NOW - 1_000, reason: 'bad_request', message: 'no such account' };
    }),
    codes: ['fault all_rejected'],
    data: '0 items in Redis, 0 on disk, plus 700 rejected. New data goes to the upstream, which rejects it.',
    sentences: [
      'The upstream rejects all data — no such account. Rejected data is kept on disk, up to dlq.rejected_capacity and dlq.rejected_retention; the oldest is dropped first. → "nrdot dlq ls --rejected" shows the reason; fix it, then run "nrdot dlq replay --rejected".',
    ],
  },
  'some data is rejected (poison)': {
    change: both(rejected(1), (s) => void (s.lately = { rejectedMs: 1_000, deliveredMs: 500 })),
    codes: ['warning rejecting'],
    data: '0 items in Redis, 0 on disk, plus 1 rejected. New data goes to Redis, then to the upstream.',
    sentences: [
      'Part of the data is rejected: the upstream refuses it permanently, or every attempt fails. Rejected data is kept on disk, up to dlq.rejected_capacity and dlq.rejected_retention; the oldest is dropped first. → "nrdot dlq ls --rejected" shows the reason; fix it, then run "nrdot dlq replay --rejected".',
    ],
  },
  'data was rejected before': {
    change: rejected(3),
    codes: ['note rejected'],
    data: '0 items in Redis, 0 on disk, plus 3 rejected. New data goes to Redis, then to the upstream.',
    sentences: [
      '3 items are kept on disk as rejected: the upstream refused them permanently, or every attempt failed. None was rejected in the last minute. → "nrdot dlq ls --rejected" shows the reason; fix it, then run "nrdot dlq replay --rejected".',
    ],
  },
  'data is being dropped': {
    change: both(dropped(94_500, 'rejected_capacity'), (s) => void (s.lately = { droppedMs: 2_000 })),
    codes: ['fault dropping'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: '94,500 of 120,000 accepted items were dropped: 94,500 rejected_capacity. All others are accounted for.',
    sentences: [
      'Data is being dropped. 94,500 of 120,000 accepted items were dropped: 94,500 rejected_capacity. → rejected_capacity: fix the cause of the rejections ("nrdot dlq ls --rejected"), or raise dlq.rejected_capacity and dlq.capacity.',
    ],
  },
  'data was dropped lately': {
    change: both(dropped(7, 'retention'), (s) => void (s.lately = { droppedMs: 300_000 })),
    codes: ['warning dropped'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: '7 of 120,000 accepted items were dropped: 7 retention. All others are accounted for.',
    sentences: ['Data was dropped earlier. 7 of 120,000 accepted items were dropped: 7 retention.'],
  },
  'data was purged by a person': {
    change: both(dropped(7, 'purged'), (s) => void (s.lately = { droppedMs: 2_000 })),
    codes: ['note dropped'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: '7 of 120,000 accepted items were dropped: 7 purged. All others are accounted for.',
    sentences: ['Data was dropped earlier. 7 of 120,000 accepted items were dropped: 7 purged.'],
  },
  'the books do not balance': {
    change: (s) => void (s.books!.difference = 7),
    codes: ['fault books_differ'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: '7 items are unaccounted for, of 120,000 accepted.',
    sentences: [
      'The books do not balance. 7 items are unaccounted for, of 120,000 accepted. → docs/operations.md, NrdotBooksDoNotBalance.',
    ],
  },
  'the queue spills': {
    change: (s) => {
      s.queue!.classes.normal.spills = true;
      s.queue!.fill = 0.96;
    },
    codes: ['warning spilling'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, but normal batches go to disk.',
    sentences: [
      'The queue in Redis is 96 % full: more data arrives than is sent. New data goes to Redis, but normal batches go to disk. → Add exporters, or send less.',
    ],
  },
  'requests are refused': {
    change: (s) => void (s.rates.refusedRequests = 2),
    codes: ['warning refusing'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'Receivers refuse 2.0 requests per second. After a 503 or 429, clients keep the data and retry; after other refusals they drop it. → For the reasons, see receiver_refused_total, or "receiver" in "nrdot status --json".',
    ],
  },
  'a metric has had most of its series of the day': {
    change: (s) => {
      s.limiter = {
        ...{ mode: 'enforce', keysUsed: 90, keysLimit: 100, maxKeys: 100, points: 1, droppedPoints: 0 },
        ...{ aggregatedPoints: 0, overflowPoints: 0, topLabels: [], ...s.limiter },
        daily: {
          ...{ day: new Date(s.at).toISOString().slice(0, 10), limit: 1_000, mode: 'observe', sum: 2_200 },
          metrics: [
            { metric: 'requests', keys: 800, forecast: 1_200 },
            { metric: 'queries', keys: 799 },
            { metric: 'pods', keys: 200, forecast: 1_001 },
            { metric: 'nodes', keys: 199, forecast: 5_000 },
          ],
        },
      };
    },
    codes: ['warning daily_keys'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      expect.stringMatching(
        /^2 metrics are close to their limit of 1,000 series for this UTC day \(limiter\.daily_keys\): "requests" 800, forecast 1,200; "pods" 200, forecast 1,001\. Beyond it, New Relic keeps the raw data but makes no roll-ups of the metric until midnight UTC, in .+\. → "nrdot limiter" shows the labels: list one in limiter\.aggregate_labels, or set limiter\.daily_mode: enforce\.$/,
      ),
    ],
  },
  'a metric has had its series of the day, and gets no more': {
    change: (s) => {
      s.limiter = {
        ...{ mode: 'enforce', keysUsed: 90, keysLimit: 100, maxKeys: 100, points: 1, droppedPoints: 0 },
        ...{ aggregatedPoints: 0, overflowPoints: 0, topLabels: [], ...s.limiter },
        daily: {
          ...{ day: new Date(s.at).toISOString().slice(0, 10), limit: 20, mode: 'enforce', sum: 19 },
          metrics: [{ metric: 'requests', keys: 19 }],
        },
      };
    },
    codes: ['warning daily_keys'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'One metric is close to its limit of 20 series for this UTC day (limiter.daily_keys): "requests" 19. Beyond it, new series are merged or dropped (limiter.critical_action). → "nrdot limiter" shows the labels: list one in limiter.aggregate_labels, or raise limiter.daily_keys.',
    ],
  },
  'the account may be sent little more': {
    change: (s) => {
      s.account = [
        { of: 'requests', signal: 'logs', perMinute: 96_000, limitPerMinute: 100_000 },
        { of: 'bytes', perMinute: 80 * MIB, limitPerMinute: 100 * MIB },
        { of: 'points', perMinute: 799, limitPerMinute: 1_000 },
      ];
    },
    codes: ['warning account_limits'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    sentences: [
      'The last minute used 96 % of 100,000 requests a minute (logs) and 80 % of 100 MiB a minute of the limits of the account (exporter.account_limits). Beyond that the upstream answers 429, and the data waits. → Ask the upstream for a higher limit, or send less: larger batches mean fewer requests.',
    ],
  },
  'the limiter drops': {
    change: (s) => {
      s.rates.limiterDropped = 5;
      s.limiter = {
        ...{ mode: 'enforce', keysUsed: 90, keysLimit: 100, maxKeys: 100, points: 1, droppedPoints: 5 },
        ...{ aggregatedPoints: 0, overflowPoints: 0, topLabels: [] },
        ...(s.limiter?.daily ? { daily: s.limiter.daily } : {}),
      };
    },
    codes: ['warning limiter_drops'],
    data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
    lost: 'Nothing: every accepted item is delivered, or kept in Redis or on disk. Before acceptance, the limiter dropped 5 data points; their senders were told.',
    sentences: [
      'The cardinality limiter drops 5 data points per second: 90 of 100 key-sets are in use. They were never accepted. → "nrdot limiter" names the metric and the label.',
    ],
  },
};

const NOTHING = 'Nothing: every accepted item is delivered, or kept in Redis or on disk.';
const names = Object.keys(STATES);
const codesOf = (findings: readonly Finding[]) => findings.map(({ level, code }) => `${level} ${code}`);
const sentence = ({ text, more, todo }: Finding) =>
  [text, more, todo && `→ ${todo}`].filter(Boolean).join(' ');

function after(...changes: Change[]): Known {
  const status = well();
  for (const change of changes) change(status);
  return status;
}

describe('the findings about a pipeline', () => {
  it('say that all is well if it is', () => {
    expect(findingsOf(well())).toEqual([
      { level: 'ok', code: 'ok', text: 'Everything flows; nothing waits for an upstream or a disk.' },
    ]);
    expect(summaryOf(well())).toEqual({
      data: '0 items in Redis, 0 on disk. New data goes to Redis, then to the upstream.',
      lost: NOTHING,
      back: '',
    });
  });

  it.each(names)('when %s', (name) => {
    const { change, codes, data, lost = NOTHING, sentences } = STATES[name]!;
    const status = after(change);
    expect(codesOf(findingsOf(status))).toEqual(codes);
    expect(findingsOf(status).map(sentence)).toEqual(sentences);
    expect(summaryOf(status)).toMatchObject({ data, lost });
  });

  it('are all explained in docs/operations.md', () => {
    const text = readFileSync(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
    const page = text.split(/^## /m).find((part) => part.startsWith('What the status says'));
    const rows = [...page!.matchAll(/^\| ([a-z_]+) \| /gm)]
      .map(([, code]) => code)
      .filter((code) => code !== 'code');
    expect(rows.sort()).toEqual([...FINDING_CODES].sort());
  });

  it('are all covered by the states of this test', () => {
    const covered = Object.values(STATES).flatMap(({ codes }) => codes.map((code) => code.split(' ')[1]));
    expect([...new Set(['ok', ...covered])].sort()).toEqual([...FINDING_CODES].sort());
  });
});

/** Of two states the second may not be seen, or not as it is alone; everything else has to be there. */
const HIDES: Record<string, (code: string) => boolean> = {
  // What only Redis knows; and services that report through it.
  'Redis is away': (code) =>
    /^(breaker|drop|books|spilling|redis_memory|no_|rejecting|all_rejected)/.test(code),
  'no dlq runs': (code) => /^(dlq_|expiring|replay_paused|on_disk|rejected|service_silent)/.test(code),
};

/** What may be claimed in a state, whatever else is the matter. */
function contradictions(status: Known): string[] {
  const said = [...findingsOf(status).map(sentence), ...Object.values(summaryOf(status))].join(' ');
  const { books, differenceMs = 0, dlq, redis, breakers = [], services } = status;
  const goes = breakers.some(({ state, okTotal }) => state === 'closed' && okTotal > 0);
  const wrong: string[] = [];
  const never = (when: boolean, claim: RegExp, why: string) => {
    if (when && claim.test(said)) wrong.push(`${why}: "${claim.exec(said)![0]}" in ${said}`);
  };
  const takes = dlq?.state === 'ok';
  never(!books, /nothing is lost|^Nothing: every|accounted for\./i, 'a claim of no loss without the books');
  never((books?.dropped ?? 0) > 0, /Nothing: every|nothing is lost/i, 'no loss, with drops');
  never(
    (books?.difference ?? 0) !== 0 && differenceMs > 10_000,
    /Nothing: every|Every item is accounted/i,
    'no loss, with a difference',
  );
  never(!takes, /go(es)? (straight )?to (the dlq's )?disk/i, 'the disk, which takes nothing');
  never(
    dlq?.replay.paused ?? false,
    /is being replayed|is replayed|are being replayed|resumes/i,
    'a return, while paused',
  );
  never(!goes || !!redis.problem, /then to the upstream/i, 'delivery, while held');
  never(
    !services.some(({ service }) => service === 'exporter'),
    /being replayed|then to the upstream/,
    'no exporter',
  );
  never(true, /about 0 s|NaN|undefined|Infinity|\[object/, 'no time, or no value');
  return wrong;
}

describe('two states at once', () => {
  const pairs = names.flatMap((a, i) => names.slice(i + 1).map((b) => [a, b] as const));

  it.each(pairs)('%s, and %s', (a, b) => {
    // In both orders: what is deleted first cannot be changed after.
    for (const [first, second] of [
      [a, b],
      [b, a],
    ] as const) {
      let status: Known;
      try {
        status = after(STATES[first]!.change, STATES[second]!.change);
      } catch {
        continue; // the first took away what the second changes
      }
      expect(contradictions(status)).toEqual([]);
      const codes = codesOf(findingsOf(status)).map((code) => code.split(' ')[1]!);
      const expected = [first, second].flatMap((name) =>
        STATES[name]!.codes.map((code) => code.split(' ')[1]!),
      );
      const hidden = (code: string) => [a, b].some((name) => HIDES[name]?.(code)) || sameSubject(code, codes);
      expect(expected.filter((code) => !codes.includes(code) && !hidden(code))).toEqual([]);
      const levels = findingsOf(status).map(({ level }) => ['fault', 'warning', 'note', 'ok'].indexOf(level));
      expect(levels).toEqual([...levels].sort());
    }
  });

  it('put a loss before its cause', () => {
    const status = after(STATES['data is being dropped']!.change, STATES['everything is rejected']!.change);
    status.lately = { ...status.lately, droppedMs: 2_000 };
    expect(codesOf(findingsOf(status))).toEqual(['fault dropping', 'fault all_rejected']);
  });

  it('describe each pair specifically', () => {
    const saying = (...states: string[]) => summaryOf(after(...states.map((name) => STATES[name]!.change)));
    expect(saying('the upstream fails', 'the disk is full').data).toBe(
      '0 items in Redis, 0 on disk. New data waits in Redis (10 % full); when that is full, clients get 503 and keep their data.',
    );
    const status = after(STATES['the upstream fails']!.change, STATES['the disk is full']!.change);
    status.queue!.fill = 0.998;
    expect(summaryOf(status).data).toBe(
      '0 items in Redis, 0 on disk. Redis is full and the disk accepts nothing: clients get 503 and keep their data.',
    );
    expect(saying('Redis is away', 'the disk is full').data).toMatch(
      /Clients get 503 and keep their data: neither Redis nor the disk accepts it\.$/,
    );
    expect(saying('the upstream fails', 'data is on disk').back).toBe(
      'Data on disk is replayed automatically once the upstream answers; this takes about 9 s.',
    );
    expect(saying('the upstream refuses the key', 'data is on disk').back).toBe(
      'Data on disk is replayed automatically once that is fixed; this takes about 9 s.',
    );
    expect(saying('the upstream refuses one signal', 'data is on disk').back).toBe(
      'Replay of logs resumes automatically once that is fixed; other signals on disk, if any, are being replayed.',
    );
    expect(saying('the upstream refuses one signal', 'the upstream fails for two signals').data).toBe(
      '0 items in Redis, 0 on disk. New data goes to disk.',
    );
    expect(saying('the upstream fails', 'replay is paused, with data on disk').back).toMatch(
      /until "nrdot dlq resume"/,
    );
    expect(saying('data is being dropped', 'data was rejected before').lost).toBe(
      '94,500 of 120,000 accepted items were dropped: 94,500 rejected_capacity. All others are accounted for.',
    );
  });
});

/** One subject is in one state: what it says of another is in its place. */
function sameSubject(code: string, seen: readonly string[]): boolean {
  const subjects = [
    ['breaker_open', 'breaker_half_open'],
    ['dlq_refuses', 'dlq_filling'],
    ['on_disk', 'replay_paused'],
    ['all_rejected', 'rejecting', 'rejected'],
    ['dropping', 'dropped'],
    ['no_receiver', 'no_exporter', 'no_dlq', 'service_silent', 'several_dlqs'],
    ['redis_away', 'redis_memory', 'redis_lost', 'redis_older'],
  ];
  return subjects.some((subject) => subject.includes(code) && seen.some((other) => subject.includes(other)));
}

it('misses no process while none has had time to report after an outage of Redis', () => {
  const status = after((s) => {
    s.services = [];
    delete s.dlq;
    delete s.exporter;
  });
  expect(codesOf(findingsOf(status))).toEqual(['fault no_receiver', 'fault no_exporter', 'fault no_dlq']);
  status.unheard = true;
  expect(codesOf(findingsOf(status))).toEqual(['ok ok']);
  expect(summaryOf(status).data).toMatch(/New data goes to Redis/);
});

it('a dlq that was just replaced is not a second one', () => {
  const status = after((s) => {
    s.services[3]!.ageMs = 3_000;
    s.services.push({ ...s.services[3]!, ageMs: 100, upMs: 2_000, instance: 'other:1' });
  });
  expect(codesOf(findingsOf(status))).toEqual(['ok ok']);
});

describe('on a screen that shows the summary', () => {
  it.each(names)('no sentence appears twice when %s', (name) => {
    const status = after(STATES[name]!.change);
    const summary = summaryOf(status);
    const shown = withoutRepeats(findingsOf(status), summary);
    const said = [...shown.map(({ text, more = '' }) => `${text} ${more}`), ...Object.values(summary)]
      .join(' ')
      .split(/(?<=\.) /)
      .map((sentence) => sentence.trim())
      .filter((sentence) => sentence !== '');
    expect(said.filter((sentence, i) => said.indexOf(sentence) < i)).toEqual([]);
    expect(shown).toHaveLength(findingsOf(status).length);
  });

  it('the problem stays, and sentences of the summary are removed', () => {
    const status = after(STATES['the upstream fails']!.change, onDisk);
    expect(withoutRepeats(findingsOf(status), summaryOf(status)).map(sentence)).toEqual([
      'Delivery has been paused for 42 s: the upstream fails — cannot resolve otlp.example. → "nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
      '1,500 items are on disk, the oldest for 5 min.',
    ]);
  });
});

describe('the next probe of the upstream', () => {
  const held = (change: Change) => {
    const status = after(opened('failures', 'no'), change);
    return nextTryText(status.breakers![0]!, status);
  };
  const halfOpen: Change = (s) => void Object.assign(s.breakers![0]!, { state: 'half_open', retryAtMs: 0 });

  it('depends on waiting batches and those in flight', () => {
    expect(held(() => {})).toBe('next probe in 12 s');
    expect(held(halfOpen)).toBe('waits for a batch to send as a probe');
    expect(held(both(halfOpen, onDisk))).toBe('the next batch is the probe');
    expect(held(both(halfOpen, (s) => void (s.queue!.classes.high.exporting.items = 5)))).toBe(
      'one batch is in flight as a probe',
    );
    const paused: Change = (s) => void (s.dlq!.replay.paused = true);
    expect(held(both(halfOpen, onDisk, paused))).toBe('waits for a batch to send as a probe');
  });
});

describe('the remedy for an unreachable Redis', () => {
  const todo = (redis: Known['redis']) =>
    findingsOf(
      after(STATES['Redis is away']!.change, (s) => void (s.redis = { problem: 'gone', ...redis })),
    )[0]!.todo;

  it('names who starts it, and its address', () => {
    expect(todo({ address: 'unix:///d/redis.sock', isOwn: true })).toMatch(
      /^It is the redis-server of "nrdot up", which restarts it with its AOF when it exits.* "redis-cli -s \/d\/redis\.sock ping" shows whether it answers/,
    );
    expect(todo({ address: 'sentinel mymaster at a:26379' })).toMatch(
      /^Start Redis again \(sentinel mymaster at a:26379\) with its AOF; never start an empty one in its place\./,
    );
    for (const redis of [{ isOwn: true }, {}]) {
      const [, page = '', anchor] = /(docs\/\S+)#(\S+)$/.exec(todo(redis)!)!;
      const text = readFileSync(new URL(`../../../${page}`, import.meta.url), 'utf8');
      expect(text.match(/^#+ .*/gm)!.map((line) => line.replace(/^#+ /, '').toLowerCase())).toContain(anchor);
    }
  });
});

describe('the state of a service while Redis is away', () => {
  const address = 'redis://r:6379';
  const state = (service: ServiceName, dlq?: { state: string }, problem = `Redis at ${address}: gone`) => {
    const known = after((s) => void Object.assign(s.redis, { address, problem }));
    const status = { ...known, dlq: dlq && { ...known.dlq!, ...dlq } } as Known;
    return stateText({ service, ...(problem ? { problem } : {}) }, status);
  };

  it('says what it does, instead of "not ready"', () => {
    expect(state('receiver', { state: 'ok' })).toBe('accepts, straight to disk');
    expect(state('receiver', { state: 'disk_full' })).toBe('refuses (503)');
    expect(state('receiver')).toBe('accepts if it reaches a dlq');
    expect(state('dlq', { state: 'ok' })).toBe('stores; replay waits for Redis');
    expect(state('exporter', { state: 'ok' })).toBe('waits for Redis');
    expect(state('exporter', { state: 'ok' }, 'a script fails')).toBe('not ready: a script fails');
    expect(state('dlq', { state: 'disk_full' }, '')).toBe('accepts nothing');
    expect(state('receiver', { state: 'ok' }, '')).toBe('ready');
  });
});

describe('items in motion', () => {
  it('do not count as lost until they stand still', () => {
    const status = after((s) => void Object.assign(s.books!, { difference: 7 }));
    status.differenceMs = 900;
    expect(codesOf(findingsOf(status))).toEqual(['ok ok']);
    expect(lossText(status)).toBe('No known loss. Counts taken a moment apart differ by 7 items.');
  });
});

describe('the message of a process that stops', () => {
  it('follows the accounting, and claims nothing without it', () => {
    expect(leftText({ queued: 12, on_disk: 1_200 })).toBe(
      '12 items in Redis and 1,200 items on disk wait for the next start.',
    );
    expect(leftText({ queued: 0, on_disk: 0 })).toBe('Nothing was waiting.');
    expect(leftText(undefined)).toMatch(/unknown/);
  });
});

describe('the last fifteen minutes', () => {
  it('are columns of equal, bounded length, empty where nothing was known', async () => {
    let at = 0;
    const history = new History(async () => {
      at += 5_000;
      const { queue, books, ...status } = well();
      return {
        ...status,
        ...(at > 10_000 ? { queue, books } : {}),
        at,
        findings: [],
      } as unknown as PipelineStatus;
    });
    history.stop();
    for (let i = 0; i < 4; i++) await history.sample();
    expect(history.columns().columns.fill).toEqual([null, null, 0.1, 0.1]);
    expect(history.columns().columns.delivered).toEqual([null, null, 1, 1]);
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
