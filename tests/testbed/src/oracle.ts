import type { SequenceSet } from './sequence-set.ts';

/** What a test holds against what arrived. Every acknowledged item is an obligation. */
export interface Obligations {
  /** Acknowledged with a 2xx. */
  acknowledged: SequenceSet;
  /** In acknowledged batches of which some items were rejected: they may be missing. */
  partial: SequenceSet;
  /** Given up without an answer: they may have arrived. */
  unknown: SequenceSet;
  /** Refused for good: the server said that it kept nothing of them. */
  refused: SequenceSet;
}

export interface Judgement {
  /** Acknowledged and not there. Must be none. */
  missing: SequenceSet;
  /** There, though they were refused or never sent. Must be none. */
  invented: SequenceSet;
}

/** Compares what was promised with what arrived. */
export function judge(obligations: Obligations, arrived: SequenceSet): Judgement {
  const owed = obligations.acknowledged.minus(obligations.partial);
  return {
    missing: owed.minus(arrived),
    invented: arrived.minus(obligations.acknowledged).minus(obligations.unknown),
  };
}

/** Words for a failure; empty when all is well. */
export function complaint({ missing, invented }: Judgement): string {
  return [
    missing.count > 0 ? `${missing.count} acknowledged items are missing: ${missing.describe()}` : '',
    invented.count > 0 ? `${invented.count} items arrived that were not taken: ${invented.describe()}` : '',
  ]
    .filter(Boolean)
    .join('; ');
}
