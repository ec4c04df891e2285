export * from './connection.ts';
export { defineScript } from './define-script.ts';
export * from './link.ts';
export { pairsOf } from './pairs.ts';
export { NotReplicated, primaryOf, type ReplicaOptions, writingOn } from './replicas.ts';
export * from './script-health.ts';
export * from './server.ts';
