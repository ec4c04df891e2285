export type { AccountLimits } from './account-usage.ts';
export type * from './findings.ts';
export * from './history.ts';
export type * from './pipeline-status.ts';
export * from './process-status.ts';
export * from './queue-state.ts';
export * from './status-board.ts';
export * from './status-reader.ts';
export * from './watch.ts';
