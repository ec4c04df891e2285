/** Patterns that take a backtracking engine longer than the age of the universe. Steps are counted, not time. */
import { ConfigError, loadConfig } from '@nrdot/config';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectLinear } from '../cost/growth.ts';
import { Meter } from '../cost/meter.ts';
import { post, startReceiver } from './receiver.ts';

let meter: Meter;
let product: Awaited<ReturnType<typeof load>>;
/** The meter counts what is loaded after it has started. */
async function load() {
  return {
    ...(await import('../../services/receiver/src/classifier/matcher.ts')),
    ...(await import('../../services/exporter/src/outcome.ts')),
  };
}
beforeAll(async () => {
  meter = Meter.start();
  product = await load();
});
afterAll(() => meter.stop());

describe('a pattern of a rule', () => {
  const rule = (regex: string) =>
    loadConfig({
      text: JSON.stringify({ priority: { rules: [{ class: 'high', resource: { a: { regex } } }] } }),
      file: 'test.yaml',
      env: {},
    });

  it.each(['(a+)+$', '([a-zA-Z]+)*$', '(a|aa)+$', '(.*a){20}$', '^(([a-z])+.)+[A-Z]([a-z])+$', '(x+x+)+y'])(
    '%s is accepted, with a cost linear in the length of its input',
    async (regex) => {
      expect(() => rule(regex)).not.toThrow();
      const matcher = new product.Matcher({ regex });
      await expectLinear(meter, 2_000, (n) => {
        const values = ['a', 'x', 'ax'].map((text) => `${text.repeat(n / text.length)}!`);
        return { size: n, work: () => values.map((value) => matcher.matches(value)) };
      });
    },
  );

  it.each(['(', '(?=a)', '(a)\\1', 'a{100000}', '(((a{100}){100}){100})'])(
    '%s is refused with the configuration, with its position',
    (regex) => {
      expect(() => rule(regex)).toThrow(ConfigError);
      expect(() => rule(regex)).toThrow(/priority\.rules\S*resource.*expected.*regular expression/s);
    },
  );
});

describe('our own patterns', () => {
  it("have a cost linear in the length of an upstream's message", () =>
    expectLinear(meter, 4_000, (n) => {
      const texts = [' ', '1', ', '].map(
        (text) => `${text.repeat(n / text.length)}1${text.repeat(n / text.length)}x`,
      );
      return { size: n, work: () => texts.map((text) => product.parseRetryAfter(text, 0)) };
    }));

  it('handle client input of any length', async () => {
    const receiver = await startReceiver({ tokens: ['t'] });
    for (const authorization of [`Bearer${' '.repeat(15_000)}x`, `Bearer ${'a '.repeat(7_000)}`]) {
      expect((await post(receiver.url, { authorization })).status).toBe(401);
    }
    await receiver.stop();
  });
});
