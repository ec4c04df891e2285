import type { Origin } from './batch.ts';
import { depthField, STAGES, type Stage } from './keys.ts';
import { numberField } from './number-field.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';

/** Depth by stage and class, and in total, in batches, items and bytes as stored. */
export interface Depth {
  stages: Record<Stage, Record<PriorityClass, { batches: number; items: number; bytes: number }>>;
  total: { batches: number; items: number; bytes: number };
}

/** Parses the depth hash. */
export function depthOf(hash: Record<string, string>): Depth {
  const at = (field: string) => numberField(hash[field]);
  const stages = {} as Depth['stages'];
  for (const stage of STAGES) {
    stages[stage] = {} as Depth['stages'][Stage];
    for (const c of CLASSES) {
      const unit = (u: 'batches' | 'items' | 'bytes') => at(depthField(stage, c, u));
      stages[stage][c] = { batches: unit('batches'), items: unit('items'), bytes: unit('bytes') };
    }
  }
  return {
    stages,
    total: { batches: at('total:batches'), items: at('total:items'), bytes: at('total:bytes') },
  };
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
