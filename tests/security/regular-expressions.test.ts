/** Patterns that take a backtracking engine longer than the age of the universe. CPU time is bounded, far above what is needed. */
import { ConfigError, loadConfig } from '@nrdot/config';
import { describe, expect, it } from 'vitest';
import { parseRetryAfter } from '../../services/exporter/src/outcome.ts';
import { Matcher } from '../../services/receiver/src/classifier/matcher.ts';
import { post, startReceiver } from './receiver.ts';

const BOUND_MS = 2_000;

function cpuMs(work: () => void): number {
  const from = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(from);
  return (user + system) / 1_000;
}

describe('a pattern of a rule', () => {
  it.each(['(a+)+$', '([a-zA-Z]+)*$', '(a|aa)+$', '(.*a){20}$', '^(([a-z])+.)+[A-Z]([a-z])+$', '(x+x+)+y'])(
    '%s stalls nothing',
    (regex) => {
      const matcher = new Matcher({ regex });
      const values = Array.from({ length: 50 }, (_, i) => `${'ax'[i % 2]!.repeat(100_000)}${i}!`);
      expect(
        cpuMs(() => {
          for (const value of values) matcher.matches(value);
        }),
      ).toBeLessThan(BOUND_MS);
    },
  );

  it.each(['(', '(?=a)', '(a)\\1', 'a{100000}', '(((a{100}){100}){100})'])(
    '%s is refused with the configuration',
    (regex) => {
      const text = JSON.stringify({ priority: { rules: [{ class: 'high', attributes: { a: { regex } } }] } });
      expect(() => loadConfig({ text, file: 'test.yaml', env: {} })).toThrow(ConfigError);
    },
  );
});

describe('our own patterns', () => {
  it('take what a client or an upstream sends in time that grows with its length', async () => {
    const long = ' '.repeat(15_000);
    expect(cpuMs(() => void parseRetryAfter(`${long}1${long}x`, 0))).toBeLessThan(BOUND_MS);
    const receiver = await startReceiver({ tokens: ['t'] });
    const from = process.cpuUsage();
    for (const authorization of [`Bearer${long}x`, `Bearer ${'a '.repeat(7_000)}`]) {
      expect((await post(receiver.url, { authorization })).status).toBe(401);
    }
    const { user, system } = process.cpuUsage(from);
    expect((user + system) / 1_000).toBeLessThan(BOUND_MS);
    await receiver.stop();
  });
});
