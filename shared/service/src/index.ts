export * from './address.ts';
export * from './admin.ts';
export { steadyNow } from './clock.ts';
export * from './host.ts';
export * from './live-config.ts';
export * from './redis.ts';
export { type ServerTls, secureServer } from './server-tls.ts';
export * from './shutdown.ts';
export * from './status-board.ts';
