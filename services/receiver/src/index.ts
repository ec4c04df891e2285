export * from './body.ts';
export * from './ingest.ts';
export * from './server.ts';
export * from './main.ts';
