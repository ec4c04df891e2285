export * from './batch.ts';
export * from './connection.ts';
export { Enqueuer } from './enqueuer.ts';
export * from './keys.ts';
export * from './priority-class.ts';
export * from './server.ts';
export * from './store.ts';
export * from './worker.ts';
