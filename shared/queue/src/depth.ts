import type { Origin } from './batch.ts';
import { depthField, STAGES, type Stage } from './keys.ts';
import { numberField } from './number-field.ts';
import { CLASSES, type PriorityClass } from './priority-class.ts';

/** Depth by stage and class, and in all. Units: batches, items, bytes as held. */
export interface Depth {
  stages: Record<Stage, Record<PriorityClass, { batches: number; items: number; bytes: number }>>;
  total: { batches: number; items: number; bytes: number };
}

/** Reads the depth hash. */
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

/** Depth field without its unit: the stage, told apart by origin, and the class. */
export function stageField(
  stage: 'queued' | 'export' | 'spill',
  priorityClass: PriorityClass,
  origin: Origin,
): string {
  if (origin === 'live') return `${stage}:${priorityClass}`;
  return `${stage === 'queued' ? 'replay' : 'replay-export'}:${priorityClass}`;
}
