export * from './main.ts';
export * from './scheduler.ts';
