import { expect, it } from 'vitest';
import { table } from './output.ts';

it('escapes names from senders, so none controls the terminal or starts a row', () => {
  const text = table(
    ['METRIC', 'KEYS'],
    [
      ['\u001b[31mred', '1'],
      ['a\r\nforged  7', '2'],
      ['\u009b2J\0', '3'],
      ['abc\u202e54', '4'],
      ['a\u2028b\ufeffc', '5'],
    ],
  );
  const rows = text.split('\n');
  expect(rows).toHaveLength(6);
  for (const row of rows) expect(row).not.toMatch(/[\p{Cc}\p{Zl}\p{Bidi_Control}\ufeff]/u);
  expect(new Set(rows.slice(1).map((row) => row.search(/\d$/))).size).toBe(1);
});
