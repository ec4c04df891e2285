export * from './check.ts';
export * from './concurrency-limit.ts';
export * from './exporter.ts';
export * from './main.ts';
export * from './outcome.ts';
export { proxyFor } from './proxy.ts';
export * from './retry.ts';
export * from './upstream.ts';
