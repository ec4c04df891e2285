export * from './catalogue.ts';
export * from './cause.ts';
export type * from './family.ts';
export * from './label-values.ts';
export * from './log.ts';
export * from './metrics.ts';
export * from './reference.ts';
export * from './transitions.ts';
export * from './words.ts';
