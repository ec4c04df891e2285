export { CLAIM_ARGS, claims } from './claims.ts';
export * from './daily-state.ts';
export * from './limiter-state.ts';
