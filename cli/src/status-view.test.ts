import { readFileSync } from 'node:fs';
import type { PipelineStatus } from '@nrdot/status';
import { describe, expect, it } from 'vitest';
import { CLASS_COLUMNS, statusLine, statusLines } from './status-view.ts';
import { clipped } from './terminal.ts';

/** What is known when neither Redis nor a service has said anything. */
const BARE: PipelineStatus = {
  at: Date.UTC(2026, 0, 2, 3, 4, 5),
  findings: [
    { level: 'fault', code: 'redis_away', text: 'Redis cannot be used: it is away.', more: 'Look at it.' },
    { level: 'note', code: 'on_disk', text: `A long one: ${'word '.repeat(40)}end.` },
  ],
  summary: { data: 'Redis cannot be asked.', lost: 'That is not known.', back: '' },
  redis: { problem: 'it is away' },
  services: [],
  rates: {
    requests: 0,
    refusedRequests: 0,
    received: 1_234.4,
    accepted: 0,
    limiterDropped: 0,
    dropped: 0,
    moved: { critical: 0, high: 0, normal: 0 },
    delivered: 0,
    stored: 0,
    replayed: 0,
  },
};

describe('the status of a pipeline', () => {
  it('escapes foreign names and messages for the terminal', () => {
    const hostile = '\u001b[2Jred\nok         Everything flows\u009b31m';
    const status: PipelineStatus = {
      ...BARE,
      findings: [{ level: 'fault', code: 'daily_keys', text: hostile, more: hostile, todo: hostile }],
      summary: { data: hostile, lost: hostile, back: hostile },
      limiter: {
        ...{ keys: 1, maxKeys: 10, mode: 'enforce' },
        daily: {
          ...{ day: '2026-01-02', limit: 100, mode: 'observe', sum: 1 },
          metrics: [{ metric: hostile, keys: 90 }],
        },
      } as unknown as NonNullable<PipelineStatus['limiter']>,
    };
    const lines = statusLines(status, { url: 'http://here', colour: false, columns: 100 });
    for (const line of [...lines, statusLine(status)]) expect(line).not.toMatch(/\p{Cc}/u);
    expect(lines.filter((line) => line.startsWith('ok '))).toEqual([]);
  });

  it('says what is unknown, and fits its width', () => {
    for (const columns of [72, 100, 120]) {
      const lines = statusLines(BARE, { url: 'http://here', colour: false, columns });
      expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(columns);
      const text = lines.join('\n');
      expect(text).toContain('NRDOT+  2026-01-02T03:04:05Z  http://here');
      expect(text).toMatch(/^FAULT {6}Redis cannot be used: it is away\. Look at it\.$/m);
      expect(text).toMatch(/^books {6}unknown without Redis$/m);
      expect(text).toContain('no dlq reports');
      expect(text).toMatch(
        /^flow {7}received 1,234\/s {3}delivered \? {3}to disk \? {3}back from disk\s+0\/s$/m,
      );
      expect(text).toMatch(/^ +normal +\? +\? +\? +- +\? +-$/m);
      expect(text).not.toMatch(/NaN|undefined/);
      expect(text).not.toContain('\u001b');
    }
  });

  const GIB = 1024 ** 3;
  const area = (items = 0, diskBytes = 0, oldestReceivedAt = 0) => ({
    ...{ items, waitingBytes: 0, diskBytes, segments: 0, oldestReceivedAt },
  });
  const dlqWith = (
    change: Partial<NonNullable<PipelineStatus['dlq']>>,
  ): NonNullable<PipelineStatus['dlq']> => ({
    ...{ state: 'ok', diskBytes: GIB, capacityBytes: 15 * GIB, segments: [], segmentsLeftOut: 0 },
    disk: { freeBytes: 80 * GIB, totalBytes: 200 * GIB, reserveBytes: GIB / 16 },
    areas: { critical: area(), high: area(), normal: area(), rejected: area() },
    quarantinedBytes: 0,
    replay: { paused: false, outstanding: 0, bytesPerSecond: 1, drainSeconds: 0, replayedItems: 0 },
    ...change,
  });
  const textOf = (status: PipelineStatus) =>
    statusLines(status, { url: 'http://here', colour: false }).join('\n');
  const diskLine = (dlq: PipelineStatus['dlq']) =>
    /^disk {7}(.*(?:\n {11}.*)*)/m
      .exec(textOf({ ...BARE, ...(dlq ? { dlq } : {}) }))![1]!
      .replace(/\n +/g, ' ');

  it('shows the use of dlq.capacity, and names the file system if that is the limit', () => {
    expect(diskLine(dlqWith({ diskBytes: 3 * GIB }))).toMatch(
      /^\[={5} {19}\] 20 % full: 3\.0 GiB of 15\.0 GiB \(dlq\.capacity\); 0 items to replay$/,
    );
    const short = { freeBytes: 2 * GIB, totalBytes: 50 * GIB, reserveBytes: GIB };
    expect(diskLine(dlqWith({ diskBytes: 3 * GIB, disk: short }))).toMatch(
      /^\[={18} {6}\] room for 1\.0 GiB: its file system has 2\.0 GiB free, of which dlq\.reserve keeps 1\.0 GiB; holds 3\.0 GiB of 15\.0 GiB \(dlq\.capacity\); 0 items/,
    );
    const full = { freeBytes: GIB / 20, totalBytes: 5 * GIB, reserveBytes: GIB / 16 };
    expect(diskLine(dlqWith({ state: 'disk_full', diskBytes: 0, disk: full }))).toMatch(
      /^\[={24}\] room for 0 B: its file system has 51\.2 MiB free/,
    );
  });

  it('shows the use of the rejected area, and its age', () => {
    const rejected = area(700, GIB / 2, BARE.at - 120_000);
    const dlq = dlqWith({ rejectedCapacityBytes: GIB, areas: { ...dlqWith({}).areas, rejected } });
    expect(diskLine(dlq)).toMatch(
      /; 700 rejected items, 50 % full: 512 MiB of 1\.0 GiB \(dlq\.rejected_capacity\)$/,
    );
    expect(textOf({ ...BARE, dlq })).toMatch(/^ +rejected +- +- +700 +2 min +- +-$/m);
    expect(textOf({ ...BARE, dlq: dlqWith({}) })).not.toMatch(/^ +rejected/m);
  });

  it('shows the age of the oldest batch, in Redis or on disk', () => {
    const areas = { ...dlqWith({}).areas, normal: area(10, 1, BARE.at - 90_000) };
    expect(textOf({ ...BARE, dlq: dlqWith({ areas }) })).toMatch(/^ +normal +\? +\? +10 +90 s +\? +-$/m);
  });

  it('shows rates of loss and refusals if there are any', () => {
    const rates = { ...BARE.rates, refusedRequests: 2.5, dropped: 30 };
    const books = {
      accepted: 9,
      delivered: 0,
      queued: 0,
      on_disk: 0,
      rejected: 0,
      dropped: 9,
      difference: 0,
    };
    expect(textOf({ ...BARE, rates, books })).toMatch(/refused 2\.5 requests\/s\s+dropped 30\/s/);
    expect(textOf({ ...BARE, books })).not.toMatch(/refused|dropped \d+\/s/);
    expect(textOf({ ...BARE, rates })).not.toMatch(/dropped 30/); // only the books know
    expect(statusLine({ ...BARE, books })).toContain('  dropped 9  difference 0');
  });

  it('describes what a service does, within the width', () => {
    const line = {
      service: 'receiver',
      instance: 'host:1',
      ageMs: 0,
      upMs: 1,
      version: '0',
      rssBytes: 1,
    } as const;
    const services = [
      { ...line, problem: `Redis at ${'x'.repeat(90)}: gone`, state: 'accepts, straight to disk' },
    ];
    const text = textOf({ ...BARE, services });
    expect(text).toMatch(/^ +receiver +accepts, straight to disk +1 s +0 s/m);
    expect(Math.max(...text.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(120);
  });

  it('has columns that docs/operations.md explains', () => {
    const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/^\| `([A-Z ]+)` \|/gm)].map(([, name]) => name);
    expect(rows).toEqual(CLASS_COLUMNS.filter((name) => name !== ''));
  });

  it('shows the share and the weighted share where weights apply', () => {
    const amount = (items: number) => ({ batches: items, items, bytes: items });
    const lane = (items: number, weight: number, achievedShare: number) => ({
      ...{ waiting: amount(items), replay: amount(0), exporting: amount(0), spilling: amount(0) },
      ...{ fill: 0, spills: false, oldestAgeMs: 0, weight, wantedShare: weight / 9, achievedShare },
    });
    const queue = (normal: number): NonNullable<PipelineStatus['queue']> => ({
      ...{ fill: 0, maxBytes: 1, maxItems: 1, items: 0, bytes: 0, slot: 'live' },
      classes: { critical: lane(9, 5, 0.8), high: lane(0, 3, 0), normal: lane(normal, 1, 0.2) },
    });
    const books = {
      accepted: 0,
      delivered: 0,
      queued: 0,
      on_disk: 0,
      rejected: 0,
      dropped: 0,
      difference: 0,
    };
    const shares = (normal: number) =>
      statusLines({ ...BARE, queue: queue(normal), books }, { url: 'http://here', colour: false })
        .filter((line) => /^ +(critical|high|normal)/.test(line))
        .map((line) => /\/s +(.*)$/.exec(line)![1]!.trim());
    expect(shares(9)).toEqual(['80 % (83 % due)', '-', '20 % (17 % due)']);
    expect(shares(0)).toEqual(['-', '-', '-']); // a class alone has all there is
  });

  it('counts batches being spilled as waiting', () => {
    const amount = (items: number) => ({ batches: items, items, bytes: items });
    const lane = (spilling: number) => ({
      ...{ waiting: amount(2), replay: amount(3), exporting: amount(0), spilling: amount(spilling) },
      ...{ fill: 0, spills: true, oldestAgeMs: 0, weight: 1, wantedShare: 1, achievedShare: 1 },
    });
    const queue: NonNullable<PipelineStatus['queue']> = {
      ...{ fill: 0, maxBytes: 1, maxItems: 1, items: 0, bytes: 0, slot: 'live' },
      classes: { critical: lane(0), high: lane(0), normal: lane(64_000) },
    };
    const text = statusLines({ ...BARE, queue }, { url: 'http://here', colour: false }).join('\n');
    expect(text).toMatch(/^ +normal +64,005 /m);
    expect(text).toMatch(/^ +high +5 /m);
  });

  it('has a line for each paused signal while others are sent', () => {
    const breaker = (signal: 'traces' | 'logs', state: 'open' | 'closed') => ({
      ...{ signal, state, reason: 'auth', said: 'no', sinceMs: BARE.at - 8_000, retryAtMs: BARE.at + 3_000 },
      ...{ failures: 0, openedTotal: 1, openedByReason: { failures: 0, quota: 0, auth: 1, place: 0 } },
      ...{ halfOpenedTotal: 0, closedTotal: 0, okTotal: 7, throttledShare: 0 },
    });
    const shown = (...breakers: ReturnType<typeof breaker>[]) => {
      const lines = statusLines(
        { ...BARE, breaker: breakers[0]!, breakers },
        { url: 'http://here', colour: false },
      );
      const at = lines.findIndex((line) => line.startsWith('breaker'));
      const end = lines.findIndex((line) => line.startsWith('queue'));
      return lines.slice(at, end).map((line) => line.trim().replace(/^breaker +/, ''));
    };
    expect(shown(breaker('logs', 'open'), breaker('traces', 'closed'))).toEqual([
      'logs open (auth), next probe in 3 s',
      'other signals are sent',
    ]);
    expect(shown(breaker('logs', 'open'), breaker('traces', 'open'))).toEqual([
      'open (auth), next probe in 3 s',
    ]);
    expect(shown(breaker('traces', 'closed'))).toEqual(['closed: everything is sent']);
  });

  it('is one line for a pipe', () => {
    expect(statusLine(BARE)).toBe(
      '2026-01-02T03:04:05Z  FAULT  received 1,234/s  delivered ?  in Redis ?  on disk ?  breaker ?  difference ?  Redis cannot be used: it is away.',
    );
  });

  it('has colours if requested, which do not change the width', () => {
    const lines = statusLines(BARE, { url: 'http://here', colour: true });
    expect(lines.join('\n')).toContain('\u001b[31mFAULT      \u001b[0m');
    expect(clipped('\u001b[1mabc\u001b[0mdef', 4)).toBe('\u001b[1mabc\u001b[0md');
  });
});
