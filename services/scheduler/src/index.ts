export type * from './findings.ts';
export type * from './history.ts';
export * from './main.ts';
export type * from './pipeline-status.ts';
export * from './scheduler.ts';
export * from './state.ts';
export * from './status.ts';
