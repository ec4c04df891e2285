export { exportParts } from './export.ts';
export * from './main.ts';
export type { DlqState, ListedBatch, ReplayAnswer } from './routes.ts';
export { isSelected, type Selection, selectionOf } from './selection.ts';
