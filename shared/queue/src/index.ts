export * from './accounting.ts';
export * from './batch.ts';
export {
  BREAKER_REASONS,
  BREAKER_STATES,
  type Breaker,
  type BreakerState,
  heldOf,
  MESSAGE_MAX,
  type Verdict,
  worstOf,
} from './breaker-state.ts';
export { BULLMQ_MAJOR, otherLayouts } from './bullmq-layout.ts';
export * from './consumer.ts';
export { type Amount, type Depth, depthOf } from './depth.ts';
export * from './doctor/damage.ts';
export * from './doctor/doctor.ts';
export { Contended, Enqueuer, NotSent, type Preparation, type SharedState } from './enqueuer.ts';
export * from './fair-share.ts';
export * from './in-process-hand-off.ts';
export * from './keys.ts';
export * from './priority-class.ts';
export { reclaim } from './reclaim.ts';
export * from './redis-wake-signal.ts';
export * from './steps.ts';
export * from './store.ts';
export * from './store-options.ts';
export { EVENTS_MAX } from './store-state.ts';
export * from './taker.ts';
export * from './wake-signal.ts';
