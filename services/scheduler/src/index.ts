export * from './scheduler.ts';
export * from './state.ts';
export * from './main.ts';
