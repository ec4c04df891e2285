import { describe, expect, it } from 'vitest';
import { type ActResult, finding, unmeasured } from './finding.ts';
import { htmlReport, textReport, verdict } from './report.ts';

function acts(...findings: ActResult['findings']): ActResult[] {
  return [{ title: 'An act', story: 'What was done.', findings, plots: [] }];
}

describe('a finding', () => {
  it('is broken unless there is a doubt, and a doubt does not affect a kept promise', () => {
    expect(finding('p', '5', true, 'it was slow').outcome).toBe('held');
    expect(finding('p', '5', false).outcome).toBe('broken');
    expect(finding('p', '5', false, 'it was slow')).toEqual({
      promise: 'p',
      measured: 'could not be measured here: 5; it was slow',
      outcome: 'unmeasured',
    });
  });
});

describe('a verdict', () => {
  const mixed = acts(
    finding('one', '1', true),
    finding('two', '2', false),
    unmeasured('three', 'it was slow'),
  );

  it('counts kept, broken and unmeasured promises', () => {
    expect(verdict(mixed)).toEqual({ promises: 3, held: 1, broken: 1, unmeasured: 1 });
    expect(textReport(mixed)).toContain('1 of 3 promises held, 1 BROKEN, 1 could not be measured here.');
    expect(textReport(acts(finding('one', '1', true)))).toContain('1 of 1 promises held.');
  });

  it('distinguishes them in the table and on the page', () => {
    const text = textReport(mixed);
    expect(text).toMatch(/held +one/);
    expect(text).toMatch(/BROKEN +two/);
    expect(text).toMatch(/unmeasured +three +could not be measured here: it was slow/);
    const page = htmlReport(mixed, new Date(0));
    for (const outcome of ['held', 'broken', 'unmeasured'])
      expect(page).toContain(`<td class="${outcome}">${outcome}`);
  });
});
