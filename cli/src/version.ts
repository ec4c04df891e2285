import root from '../../package.json' with { type: 'json' };

/** One version for all of it: the root package's. */
export const VERSION: string = root.version;
