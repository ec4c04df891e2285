import { expect, it } from 'vitest';
import { policyOf } from './options.ts';
import { limiterOptions } from './test/options.ts';

const isOverridden = (pattern: string, name: string) =>
  policyOf(limiterOptions({ overrides: [{ metric: pattern, gaugeReducer: 'max' }] }))(name).gaugeReducer ===
  'max';

it('an override is for all names that its pattern matches, in which * stands for anything', () => {
  for (const [pattern, yes, no] of [
    ['a', ['a'], ['', 'aa', 'ab']],
    ['*', ['', 'a', 'a.b\n'], []],
    ['a*', ['a', 'ab', 'a*'], ['', 'ba']],
    ['*a', ['a', 'ba'], ['', 'ab']],
    ['a*a', ['aa', 'aba'], ['a', 'ab']],
    ['a*b*c', ['abc', 'a1b2c', 'abbcc'], ['ac', 'acb', 'abcd']],
    ['a*b*b', ['abb', 'abbb'], ['ab', 'aab']],
    ['a.[b]*', ['a.[b]', 'a.[b]c'], ['axb', 'a.b']],
    ['**', ['', 'a'], []],
  ] as const) {
    for (const name of yes)
      expect([pattern, name, isOverridden(pattern, name)]).toEqual([pattern, name, true]);
    for (const name of no)
      expect([pattern, name, isOverridden(pattern, name)]).toEqual([pattern, name, false]);
  }
});

it('matches the same names as the regular expression, for all short patterns and names', () => {
  const words = (letters: string, length: number): string[] =>
    length === 0 ? [''] : words(letters, length - 1).flatMap((word) => ['', ...letters].map((l) => word + l));
  for (const pattern of new Set(words('ab*', 4))) {
    const expression = new RegExp(`^${pattern.replaceAll('*', '[^]*')}$`);
    for (const name of new Set(words('ab', 5)))
      expect([pattern, name, isOverridden(pattern, name)]).toEqual([pattern, name, expression.test(name)]);
  }
});
