/** Schedules that once failed, by what was wrong. */
export const REGRESSIONS: readonly { what: string; choices: readonly number[] }[] = [];
