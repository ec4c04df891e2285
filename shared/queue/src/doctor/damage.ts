export type DamageKind =
  | ('wrong_type' | 'no_number' | 'odd_job' | 'put_away' | 'job_without_payload' | 'job_out_of_sight')
  | ('stray_job' | 'payload_without_job' | 'unreadable_payload')
  | ('depth' | 'books' | 'disk' | 'not_examined');

export interface Damage {
  kind: DamageKind;
  /** `note`: nothing has to be done. `warning`: repairable without loss. `fault`: data was lost, or is out of reach. */
  level: 'note' | 'warning' | 'fault';
  /** What is off and why, in full sentences. */
  text: string;
  /** What to do if `--repair` does not repair it. */
  todo?: string;
  count: number;
  /** The first few names of what is affected. */
  examples: string[];
  /** How many were repaired. */
  mended: number;
}

export interface Diagnosis {
  at: number;
  tookMs: number;
  repair: boolean;
  /** Number of jobs examined. */
  jobs: number;
  payloads: number;
  /** Empty if all is well. */
  damage: Damage[];
  /** Items missing from the accounting (above 0) or counted twice (below), after the repair if any; absent if unknown. */
  difference?: number;
}

/** The most severe level of the damage that was not repaired. */
export function leftOver(damage: readonly Damage[]): Damage['level'] | 'ok' {
  const left = damage.filter(({ count, mended }) => mended < count).map(({ level }) => level);
  return (['fault', 'warning', 'note'] as const).find((level) => left.includes(level)) ?? 'ok';
}
