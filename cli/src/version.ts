import root from '../../package.json' with { type: 'json' };

/** The version of the root package, for everything. */
export const VERSION: string = root.version;
