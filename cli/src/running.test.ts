import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { runningText } from './running.ts';

const shown = (redisSocket: string) => {
  const addresses = { otlp: '', upstreams: ['u'], isMock: false, admin: '', data: '' };
  const text = runningText({ event: 'running', version: '1', ...addresses, redisSocket, waitsFor: [] });
  return /redis-cli -s (.*)/.exec(text)?.[1] ?? '';
};

it('the command to inspect Redis names the socket, whatever its directory is called', () => {
  expect(shown('/var/lib/nrdot/redis.sock')).toBe('/var/lib/nrdot/redis.sock');
  for (const path of ['/My Projects/redis.sock', "/it's $(echo no) `echo no`/redis.sock"])
    expect(execFileSync('sh', ['-c', `printf %s ${shown(path)}`], { encoding: 'utf8' })).toBe(path);
});
