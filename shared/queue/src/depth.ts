import type { Origin } from './batch.ts';
import { STAGES, type Stage } from './keys.ts';
import { numberField } from './number-field.ts';
import { byClass, type PriorityClass } from './priority-class.ts';

export interface Amount {
  batches: number;
  items: number;
  /** As stored. */
  bytes: number;
}

export interface Depth {
  stages: Record<Stage, Record<PriorityClass, Amount>>;
  total: Amount;
}

/** Parses the depth hash. */
export function depthOf(hash: Record<string, string>): Depth {
  const at = (prefix: string): Amount => ({
    batches: numberField(hash[`${prefix}:batches`]),
    items: numberField(hash[`${prefix}:items`]),
    bytes: numberField(hash[`${prefix}:bytes`]),
  });
  const stages = Object.fromEntries(STAGES.map((stage) => [stage, byClass((c) => at(`${stage}:${c}`))]));
  return { stages: stages as Depth['stages'], total: at('total') };
}

/** Prefix of the fields of a stage, origin and class; the unit follows it. */
export function stageField(
  stage: 'queued' | 'export' | 'spill',
  priorityClass: PriorityClass,
  origin: Origin,
): string {
  if (origin === 'live') return `${stage}:${priorityClass}`;
  return `${stage === 'queued' ? 'replay' : 'replay-export'}:${priorityClass}`;
}
