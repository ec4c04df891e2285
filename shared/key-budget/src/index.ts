export { CLAIM_ARGS, claims } from './claims.ts';
export * from './daily-state.ts';
export {
  type ClaimAnswer,
  type Claimant,
  claimAnswer,
  claimArgs,
  type Lease,
  type LeftPoints,
  type LimiterClaim,
  LimiterState,
  type PipelineState,
} from './limiter-state.ts';
