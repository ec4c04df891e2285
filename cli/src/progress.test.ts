import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { ProgressLine } from './progress.ts';

function shown(columns: number): string {
  const out = Object.assign(new PassThrough(), { isTTY: true, columns });
  new ProgressLine(out as unknown as NodeJS.WriteStream).show('x'.repeat(100));
  return String(out.read()).replace('\r\u001b[K', '');
}

it('fits the terminal, and assumes 80 columns if the width is unknown', () => {
  expect(shown(40)).toHaveLength(39);
  expect(shown(0)).toHaveLength(79);
});
