export * from './body.ts';
export * from './ingest.ts';
export * from './main.ts';
export * from './server.ts';
