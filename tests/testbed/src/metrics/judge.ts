/** Holds what came out against what sources counted. */
import { shown } from './exact.ts';
import type { MetricLedger } from './ledger.ts';
import type { Kind } from './reader.ts';
import { commonResolution, NOTHING, type Parts, partsAt, type Value } from './value.ts';

export interface Expectation {
  /** Every request that was acknowledged, once. */
  counted: MetricLedger;
  /**
   * The same, and every try whose fate is not known, each time: a delta may have arrived twice. A cumulative one counts once
   * however often it comes. Where it says the same as `counted`, totals are exact.
   */
  atMost: MetricLedger;
  /** Labels that are never given up: totals hold for each of their values. */
  kept: readonly string[];
  /** Metrics of which the product says that it dropped points, or could not know what they add: they may be less. */
  mayLack?: ReadonlySet<string>;
}

const SHOWN = 12;

/** @returns what is wrong, in words; nothing when all is well */
export function judgeTotals(
  received: MetricLedger,
  { counted, atMost, kept, mayLack }: Expectation,
): string[] {
  const [lower, upper, found] = [counted.groups(kept), atMost.groups(kept), received.groups(kept)];
  const complaints: string[] = [];
  for (const name of new Set([...upper.keys(), ...found.keys()])) {
    const most = upper.get(name);
    const group = found.get(name);
    if (!most) {
      complaints.push(`${name}: nobody sent it`);
      continue;
    }
    if (most.kind === 'summary') continue;
    if (most.kind === 'gauge') {
      const invented = [...(group?.readings ?? [])].filter((reading) => !most.readings.has(reading));
      if (invented.length > 0)
        complaints.push(`${name}: ${invented.length} readings nobody sent, as ${invented[0]}`);
      continue;
    }
    const total = group?.total ?? NOTHING;
    const least = mayLack?.has(name) ? undefined : (lower.get(name)?.total ?? NOTHING);
    const wrong = outside(total, least, most.total, most.kind);
    if (wrong.length > 0) complaints.push(`${name}: ${wrong.slice(0, SHOWN).join('; ')}`);
  }
  const sentFaults = atMost.faults();
  for (const [identity, faults] of received.faults())
    if (!sentFaults.has(identity)) complaints.push(`${identity}: ${faults.slice(0, SHOWN).join('; ')}`);
  return complaints;
}

/** @param least undefined where less is allowed */
function outside(found: Value, least: Value | undefined, most: Value, kind: Kind): string[] {
  const resolution = commonResolution(found, most, least ?? most);
  const [parts, high, low] = [found, most, least ?? most].map((value) => partsAt(value, resolution)) as [
    Parts,
    Parts,
    Parts,
  ];
  const wrong: string[] = [];
  for (const name of new Set([...parts.keys(), ...high.keys(), ...low.keys()])) {
    const size = parts.get(name) ?? 0n;
    const bounds = [low.get(name) ?? 0n, high.get(name) ?? 0n] as const;
    // A level that is not known may have been higher before.
    const [from, to] = bounds[0] <= bounds[1] ? bounds : [bounds[1], bounds[0]];
    if (!least && (kind === 'level' || size <= to)) continue;
    if (size < from || size > to)
      wrong.push(
        `${name} is ${shown(size)} instead of ${from === to ? '' : `${shown(from)} to `}${shown(to)}`,
      );
  }
  return wrong;
}
