export * from './change.ts';
export * from './config.ts';
export * from './load.ts';
export { type OptionMeta, PIPELINE } from './options.ts';
export * from './problem.ts';
export * from './reference.ts';
export * from './secret.ts';
export * from './units.ts';
export * from './warnings.ts';
