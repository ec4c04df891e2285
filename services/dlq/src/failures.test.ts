import { expect, it } from 'vitest';
import { Failures } from './failures.ts';

it('delays a batch longer after each failure, up to a minute, and remembers the last message', () => {
  const failures = new Failures();
  const waits = Array.from({ length: 12 }, (_, i) => {
    failures.add(
      'r1',
      { attempts: 8, message: `no ${i}` },
      { isOpen: false, othersPassed: i % 2 === 1 },
      1_000,
    );
    return failures.of('r1')!.notBeforeMs - 1_000;
  });
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, ...Array(5).fill(60_000)]);
  expect(failures.of('r1')).toMatchObject({
    ...{ times: 12, whileOthersPassed: 6, attempts: 96, message: 'no 11' },
  });
  failures.add('r1', { attempts: 1, message: 'gone' }, { isOpen: true, othersPassed: true }, 9_000);
  expect(failures.of('r1')).toMatchObject({
    times: 13,
    whileOthersPassed: 6,
    atMs: 9_000,
    inVainAtMs: 1_000,
  });
  failures.forget('r1');
  expect(failures.of('r1')).toBeUndefined();
});

it('delays a batch that failed as the probe of an outage, but not once the outage is over', () => {
  const failures = new Failures();
  const fail = (isOpen: boolean, nowMs: number) => {
    failures.add('r1', { attempts: 1, message: '503' }, { isOpen, othersPassed: false }, nowMs);
    return failures.of('r1')!;
  };
  for (let i = 0; i < 9; i++) fail(true, i);
  expect(fail(true, 1_000)).toMatchObject({ notBeforeMs: 0, noProbeBeforeMs: 61_000, inVain: 0 });
  expect(fail(false, 2_000)).toMatchObject({ notBeforeMs: 2_500, noProbeBeforeMs: 62_000, inVain: 1 });
  expect(fail(true, 3_000)).toMatchObject({ notBeforeMs: 2_500, noProbeBeforeMs: 63_000, inVainAtMs: 2_000 });
});

it('remembers a bounded number of failures, the latest', () => {
  const failures = new Failures();
  for (let i = 0; i < 10_001; i++)
    failures.add(`r${i}`, { attempts: 1, message: '' }, { isOpen: true, othersPassed: true }, 0);
  expect(failures.of('r0')).toBeUndefined();
  expect(failures.of('r1')).toBeDefined();
});
