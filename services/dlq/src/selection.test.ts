import { expect, it } from 'vitest';
import { REPLAY_AREAS, selectionOf } from './selection.ts';

const areasOf = (asked: Record<string, unknown>) => selectionOf(asked, REPLAY_AREAS, ['yes']).areas;

it('refuses an unknown parameter, which would select more than intended', () => {
  for (const name of ['clas', 'classes', 'Class', '__proto__.class', 'rate'])
    expect(() => areasOf({ [name]: 'normal', yes: 'true' }), name).toThrow(
      `unknown parameter "${name}"; expected class, rejected, area, since, until, yes`,
    );
  expect(areasOf({ class: 'normal', yes: 'true' })).toEqual(['normal']);
  expect(areasOf({ yes: true })).toEqual(REPLAY_AREAS);
});

it('refuses an area that contradicts class or rejected', () => {
  for (const other of [{ class: 'critical' }, { rejected: true }, { class: 'normal', rejected: true }])
    expect(() => areasOf({ area: 'normal', ...other })).toThrow(/^area: "normal" contradicts/);
  expect(areasOf({ area: 'normal', class: 'normal' })).toEqual(['normal']);
  expect(areasOf({ area: 'rejected', class: 'high' })).toEqual(['rejected']);
  expect(areasOf({ area: 'rejected', rejected: true })).toEqual(['rejected']);
});

it('refuses a day that does not exist, which would be taken for a later one', () => {
  for (const since of ['2026-11-31', '2026-02-29T10:00:00Z', '2026-13-01', '2026-11'])
    if (since === '2026-11') expect(selectionOf({ since }, REPLAY_AREAS).since).toBe(Date.UTC(2026, 10));
    else expect(() => selectionOf({ since }, REPLAY_AREAS), since).toThrow(`since: "${since}" is not a time`);
  expect(selectionOf({ since: '2024-02-29' }, REPLAY_AREAS).since).toBe(Date.UTC(2024, 1, 29));
});
