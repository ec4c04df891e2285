import { expect, it } from 'vitest';
import { AccountUsage } from './account-usage.ts';

const nothing = { requests: 0, items: 0, bytes: 0 };
const LIMITS = {
  requestsPerMinute: 1_000,
  pointsPerMinute: 100_000,
  recordsPerMinute: 10_000,
  bytesPerMinute: 1_000_000,
};

/** Two exporters that send as much each second, of which each says every 2 s what it has sent. */
function after(seconds: number, usage = new AccountUsage()): AccountUsage {
  for (let second = 0; second <= seconds; second += 2)
    for (const exporter of ['a:1', 'b:1'])
      usage.record(
        exporter,
        {
          traces: { requests: second, items: 10 * second, bytes: 100 * second },
          metrics: { requests: 4 * second, items: 500 * second, bytes: 700 * second },
          logs: { requests: 2 * second, items: 30 * second, bytes: 200 * second },
        },
        second * 1_000,
      );
  return usage;
}

it('shows what all exporters sent in the last minute, the nearest limit first', () => {
  expect(after(90).read(LIMITS, 90_000)).toEqual([
    { of: 'points', perMinute: 60_000, limitPerMinute: 100_000 },
    { of: 'requests', signal: 'metrics', perMinute: 480, limitPerMinute: 1_000 },
    { of: 'records', perMinute: 4_800, limitPerMinute: 10_000 },
    { of: 'bytes', perMinute: 120_000, limitPerMinute: 1_000_000 },
  ]);
});

it('shows only configured limits', () => {
  expect(after(90).read({}, 90_000)).toEqual([]);
  expect(
    after(90)
      .read({ recordsPerMinute: 1 }, 90_000)
      .map(({ of }) => of),
  ).toEqual(['records']);
});

it('covers a minute, however often it is updated', () => {
  const usage = new AccountUsage();
  // A process that reads itself says so many times a second; it sent all in the first second.
  for (let ms = 0; ms <= 60_000; ms += 100)
    usage.record(
      'a:1',
      { traces: nothing, metrics: { ...nothing, items: ms === 0 ? 0 : 7_000 }, logs: nothing },
      ms,
    );
  expect(usage.read({ pointsPerMinute: 1 }, 60_000)[0]?.perMinute).toBe(7_000);
});

it('resets when a process restarts, and forgets one that stops reporting', () => {
  const usage = after(90);
  usage.record('a:1', { traces: nothing, metrics: nothing, logs: nothing }, 92_000);
  expect(usage.read({ pointsPerMinute: 1 }, 92_000)[0]?.perMinute).toBe(30_000);
  expect(usage.read({ pointsPerMinute: 1 }, 200_000)[0]?.perMinute).toBe(0);
});
