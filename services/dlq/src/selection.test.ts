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
