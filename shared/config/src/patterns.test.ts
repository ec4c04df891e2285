import { RE2JS } from 're2js';
import { expect, it, vi } from 'vitest';
import { loadConfig } from './load.ts';
import { patternSize } from './patterns.ts';

const PATTERNS = [
  ...[
    '',
    'checkout',
    '^system\\.',
    'a|bb|ccc',
    '(?i)a+b*c?',
    'a{1000}',
    'a{1000}b{1000}c{1000}',
    '(a|b){500}',
  ],
  ...['(a?){1000}', '((a[a-z]{30}){30})', '((a|b)*c){99}', '(.*a){1000}', '(?:ab{2,9}){3,}', '(?P<n>x){7}'],
  ...['[]a{100}]{100}', '[^]a]{100}', '[[:alpha:]]{100}', '[\\]a]{100}', '\\Q(a{9}[\\E{100}', '\\x{41}{100}'],
  ...[
    '\\Q[\\Ea{900}]',
    '\\pL{100}',
    '\\p{Greek}{100}',
    '(((((a{2}){2}){2}){2}){2})',
    '\\({100}',
    'a{,5}',
    'a{x}',
  ],
];

it.each(PATTERNS)('%s: not less than half of what it is compiled to, nor much more', (pattern) => {
  const program = RE2JS.compile(pattern).programSize();
  const size = patternSize(pattern);
  expect(size).toBeGreaterThanOrEqual(program / 2 - 10);
  expect(size).toBeLessThanOrEqual(2 * program + 50);
});

it('rules whose patterns are too large together are refused before any is compiled', () => {
  const compile = vi.spyOn(RE2JS, 'compile');
  const load = (rules: number) => {
    const text = JSON.stringify({
      priority: {
        rules: Array.from({ length: rules }, (_, i) => ({
          class: 'high',
          resource: { a: { regex: `((a${i}[a-z]{30}){30})` } },
        })),
      },
    });
    return () => loadConfig({ text, file: 'test.yaml', env: {} });
  };
  expect(load(25)).not.toThrow();
  expect(compile).toHaveBeenCalled();
  compile.mockClear();
  expect(load(300)).toThrow(/priority\.rules.*have, together, at most 30000 characters/s);
  expect(compile.mock.calls.length).toBeLessThanOrEqual(2); // the default rules
});
