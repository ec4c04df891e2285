export * from './connection.ts';
export * from './link.ts';
export { pairsOf } from './pairs.ts';
export { NotReplicated, onReplicas, primaryOf, type ReplicaOptions, writingOn } from './replicas.ts';
export * from './script-health.ts';
export * from './server.ts';
