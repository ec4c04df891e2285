export * from './main.ts';
export * from './scheduler.ts';
export * from './state.ts';
