/** What a doctor can find in Redis. */
const DAMAGE_KINDS = [
  'wrong_type',
  'no_number',
  'odd_job',
  'put_away',
  'job_without_payload',
  'job_out_of_sight',
  'stray_job',
  'payload_without_job',
  'unreadable_payload',
  'depth',
  'books',
  'disk',
  'not_examined',
] as const;
export type DamageKind = (typeof DAMAGE_KINDS)[number];

export interface Damage {
  kind: DamageKind;
  /** `note`: nothing has to be done. `warning`: it can be mended and nothing is lost. `fault`: something is lost, or nobody can reach it. */
  level: 'note' | 'warning' | 'fault';
  /** What is off and why, in whole sentences. */
  text: string;
  /** What to do where `--repair` does not do it. */
  todo?: string;
  count: number;
  /** Names of what it is, the first few. */
  examples: string[];
  /** How many of them were mended. */
  mended: number;
}

export interface Diagnosis {
  at: number;
  tookMs: number;
  repair: boolean;
  /** What was looked at. */
  jobs: number;
  payloads: number;
  /** None when all is well. */
  damage: Damage[];
  /** Items that the books have nowhere (above 0) or twice (below), after a repair if there was one; absent when that could not be told. */
  difference?: number;
}

/** What is left of the damage, as the gravest level of it. */
export function leftOver(damage: readonly Damage[]): Damage['level'] | 'ok' {
  const left = damage.filter(({ count, mended }) => mended < count).map(({ level }) => level);
  return (['fault', 'warning', 'note'] as const).find((level) => left.includes(level)) ?? 'ok';
}
