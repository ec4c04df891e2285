import type { LimiterClaim } from '@nrdot/key-budget';
import { packSourceClaims, type SourceClaim, sourceClaims } from './merge/source-claims.ts';

/**
 * What a request relies on, and changes, in the state that all receivers share; the step that makes it durable compares and
 * writes it. `sources` is valid until the request is kept.
 */
export interface Claim extends LimiterClaim {
  /**
   * It has cumulative points and labels may be stripped at any time: a point whose label another receiver has stripped must not
   * pass unmerged.
   */
  reliesOnRules: boolean;
}

/**
 * Joins the claims of a request's pieces: for a source that several pieces advance, the first claim has the old version, the
 * last one the new value.
 */
export function joinedClaim(claims: readonly LimiterClaim[]): LimiterClaim {
  const bytes = (of: (claim: LimiterClaim) => Buffer) => Buffer.concat(claims.map(of));
  const sources = new Map<string, SourceClaim>();
  const levels = new Map<string, [field: Buffer, value: Buffer]>();
  const rules = new Map<string, string>();
  let held = new Map<string, [field: Buffer, value: Buffer]>();
  for (const claim of claims) {
    // The step first removes what is sent with the request, then adds what is deferred.
    if (claim.sends) held = new Map();
    for (let i = 0; i < claim.held.length; i += 2)
      held.set(claim.held[i]!.toString('latin1'), [claim.held[i]!, claim.held[i + 1]!]);
    for (const { field, expected, value } of sourceClaims(claim.sources)) {
      const name = field.toString('latin1');
      sources.set(name, { field, expected: sources.get(name)?.expected ?? expected, value });
    }
    for (let i = 0; i < claim.levels.length; i += 2)
      levels.set(claim.levels[i]!.toString('latin1'), [claim.levels[i]!, claim.levels[i + 1]!]);
    for (let i = 0; i < claim.rules.length; i += 2) rules.set(claim.rules[i]!, claim.rules[i + 1]!);
  }
  return {
    hasRefused: claims.some(({ hasRefused }) => hasRefused),
    keys: bytes(({ keys }) => keys),
    remembered: bytes(({ remembered }) => remembered),
    gone: bytes(({ gone }) => gone),
    counting: bytes(({ counting }) => counting),
    neverForwarded: Math.max(0, ...claims.map(({ neverForwarded }) => neverForwarded)),
    forwarded: bytes(({ forwarded }) => forwarded),
    producers: bytes(({ producers }) => producers),
    sources: packSourceClaims([...sources.values()]),
    levels: [...levels.values()].flat(),
    rules: [...rules].flat(),
    held: [...held.values()].flat(),
    sends: claims.find(({ sends }) => sends)?.sends,
    writtenMs: Math.max(0, ...claims.map(({ writtenMs }) => writtenMs)),
  };
}
