import type { PipelineStatus } from '@nrdot/scheduler';
import { describe, expect, it } from 'vitest';
import { statusLine, statusLines } from './status-view.ts';
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
    moved: { critical: 0, high: 0, normal: 0 },
    delivered: 0,
    stored: 0,
    replayed: 0,
  },
};

describe('the status of a pipeline', () => {
  it('says what is not known, and fits its width', () => {
    for (const columns of [72, 100, 120]) {
      const lines = statusLines(BARE, { url: 'http://here', colour: false, columns });
      expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(columns);
      const text = lines.join('\n');
      expect(text).toContain('NRDOT+  2026-01-02T03:04:05Z  http://here');
      expect(text).toMatch(/^FAULT {6}Redis cannot be used: it is away\. Look at it\.$/m);
      expect(text).toMatch(/^books {6}not known without Redis$/m);
      expect(text).toContain('no dlq answers');
      expect(text).toMatch(
        /^flow {7}received 1,234\/s {3}delivered \? {3}to disk \? {3}back from disk\s+0\/s$/m,
      );
      expect(text).toMatch(/^ +normal +\? +\? +\? +- +\? +-$/m);
      expect(text).not.toMatch(/NaN|undefined/);
      expect(text).not.toContain('\u001b');
    }
  });

  it('tells how full the disk itself is, beside what the dlq holds of its capacity', () => {
    const area = { items: 0, waitingBytes: 0, diskBytes: 0, segments: 0, oldestReceivedAt: 0 };
    const GIB = 1024 ** 3;
    const dlq: NonNullable<PipelineStatus['dlq']> = {
      ...{ state: 'disk_full', diskBytes: GIB, capacityBytes: 15 * GIB, segments: [], segmentsLeftOut: 0 },
      disk: { freeBytes: GIB / 20, totalBytes: 5 * GIB, reserveBytes: GIB / 16 },
      areas: { critical: area, high: area, normal: area, rejected: area },
      quarantinedBytes: 0,
      replay: { paused: false, outstanding: 0, bytesPerSecond: 1, drainSeconds: 0, replayedItems: 0 },
    };
    expect(statusLines({ ...BARE, dlq }, { url: 'http://here', colour: false }).join('\n')).toMatch(
      /^disk {7}\[={24}\] 0 items; 1\.0 GiB, 7 % of dlq\.capacity \(15\.0 GiB\); the disk itself is 99 % full,\s+51\.2 MiB free$/m,
    );
  });

  it('shows a share where a weight binds, and what is due', () => {
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

  it('counts as waiting what Redis holds for the disk, too', () => {
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

  it('has a line for each signal that is held while others are sent', () => {
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
      'logs open for 8 s (auth), tries again in 3 s',
      'other signals are sent',
    ]);
    expect(shown(breaker('logs', 'open'), breaker('traces', 'open'))).toEqual([
      'open for 8 s (auth), tries again in 3 s',
    ]);
    expect(shown(breaker('traces', 'closed'))).toEqual(['closed: everything may be sent']);
  });

  it('is one line for a pipe', () => {
    expect(statusLine(BARE)).toBe(
      '2026-01-02T03:04:05Z  FAULT  received 1,234/s  delivered ?  in Redis ?  on disk ?  breaker ?  difference ?  Redis cannot be used: it is away.',
    );
  });

  it('has colours where they are wanted, which take no room', () => {
    const lines = statusLines(BARE, { url: 'http://here', colour: true });
    expect(lines.join('\n')).toContain('\u001b[31mFAULT      \u001b[0m');
    expect(clipped('\u001b[1mabc\u001b[0mdef', 4)).toBe('\u001b[1mabc\u001b[0md');
  });
});
