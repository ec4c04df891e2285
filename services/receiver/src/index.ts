export * from './body.ts';
export * from './ingest.ts';
export type { LimiterReport } from './limiter/index.ts';
export * from './main.ts';
export * from './server.ts';
export type { TapEnd, TapLine, TappedItem } from './tap/tap.ts';
