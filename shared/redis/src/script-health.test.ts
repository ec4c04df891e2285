import { expect, it } from 'vitest';
import { ScriptHealth } from './script-health.ts';

const failure = (message: string) => Object.assign(new Error(message), { name: 'ReplyError' });

it('reports each kind of failure once, and after a while that a script keeps failing', () => {
  let now = 0;
  const health = new ScriptHealth(() => now);
  expect(
    health.failed('move', failure('WRONGTYPE x script: 0123456789012345678901234567890123456789, on @x')),
  ).toBe('the script move failed, and nothing was changed: WRONGTYPE x');
  expect(health.failed('move', failure('WRONGTYPE x'))).toBe('');
  expect(health.failed('move', failure('WRONGTYPE y'))).toMatch(/WRONGTYPE y/);
  expect(health.notReady()).toBeUndefined();
  now += 10_000;
  health.failed('move', failure('WRONGTYPE y'));
  expect(health.notReady()).toBe('the script move has been failing for 10 s: WRONGTYPE y');
  expect([health.succeeded('move'), health.succeeded('move')]).toEqual([true, false]);
  expect(health.notReady()).toBeUndefined();
});

it('ignores errors about the state of Redis, and scripts not tried for long', () => {
  let now = 0;
  const health = new ScriptHealth(() => now);
  for (const state of [
    'OOM command not allowed',
    'LOADING Redis',
    'READONLY You',
    'NOREPLICAS Not',
    'CLUSTERDOWN Hash',
  ])
    expect(health.failed('move', failure(state))).toBeUndefined();
  expect(health.failed('move', new Error('Connection is closed.'))).toBeUndefined();
  health.failed('take', failure('NOPERM this user'));
  now += 20_000;
  expect(health.notReady()).toMatch(/take/);
  now += 20_000;
  expect(health.notReady()).toBeUndefined();
});

it('tells of a failing lease, without which a receiver is ready', () => {
  let now = 0;
  const health = new ScriptHealth(() => now);
  expect(health.failed('lease', failure('WRONGTYPE x'))).toMatch(/^the script lease failed/);
  now += 10_000;
  health.failed('lease', failure('WRONGTYPE x'));
  expect(health.notReady()).toBeUndefined();
});
