/** What a fault run does, decided by the campaign's seed and the run's number alone. */
import { mix32, seededRandom, type Workload } from '@nrdot/testbed';
import { KINDS, type Kind, kindOf } from './catalogue.ts';
import type { Form } from './stack.ts';

export interface PlannedFault {
  kind: string;
  target: string;
  /** After the load began. */
  afterMs: number;
  lastsMs: number;
}

export interface Plan {
  seed: number;
  index: number;
  form: Form;
  faults: PlannedFault[];
  /** Beside the load there are producers of cumulative streams, which the limiter merges; their totals are judged. */
  merging: boolean;
  load: Pick<Workload, 'items' | 'batchSize' | 'rate' | 'encoding' | 'format' | 'connections' | 'signals'>;
}

/** Fault runs on one stack before it is made anew. */
export const RUNS_PER_STACK = 25;
/** The forms of stacks, in turn. */
export const TURN: readonly Form[] = [
  ...(['services', 'services', 'one', 'services', 'sentinel', 'one'] as const),
  ...(['services', 'services', 'one', 'services', 'cluster', 'one'] as const),
];
const PAIRS = 0.4;
const MERGING = 0.85;

export function formOf(index: number): Form {
  return TURN[Math.floor(index / RUNS_PER_STACK) % TURN.length]!;
}

/** @param only kinds to draw from; all when empty */
export function plan(seed: number, index: number, form = formOf(index), only: readonly string[] = []): Plan {
  const random = seededRandom(mix32(seed ^ mix32(index + 1)));
  const kinds = (only.length > 0 ? only.map(kindOf) : KINDS).filter((kind) => kind.forms.includes(form));
  const faults = [drawFault(kinds, form, random)];
  if (random() < PAIRS) {
    const [first, second] = [faults[0]!, drawFault(kinds, form, random)];
    const alone = [first, second].some(({ kind }) => kindOf(kind).alone);
    if (!alone && second.target !== first.target) faults.push(second);
  }
  const [batchSize, items] = pick(random, [
    [25, 5_000],
    [100, 10_000],
    [500, 15_000],
    [1_000, 20_000],
  ] as const);
  const lastsMs = Math.max(...faults.map((fault) => fault.afterMs + fault.lastsMs));
  return {
    seed,
    index,
    form,
    faults,
    // Of a stream of its own: a plan of an earlier campaign stays the same.
    merging: seededRandom(mix32(seed ^ mix32(~index)))() < MERGING,
    load: {
      items,
      batchSize,
      rate: Math.round((items * 1000) / (Math.min(lastsMs, 2_500) + 200)),
      encoding: pick(random, ['identity', 'gzip', 'gzip', 'zstd'] as const),
      format: random() < 0.1 ? 'json' : 'protobuf',
      connections: pick(random, [4, 8, 16]),
      signals: { traces: 3, metrics: 1, logs: 1 },
    },
  };
}

export function describe({ index, form, faults, merging, load }: Plan): string {
  const told = faults.map((f) => `${f.kind} @ ${f.target} for ${f.lastsMs} ms`).join(' + ');
  return `#${index} ${form}: ${told}; ${load.items} items in ${load.batchSize}s${merging ? ', merging' : ''}`;
}

/** A fault of one of these kinds. */
export function drawFault(kinds: readonly Kind[], form: Form, random: () => number): PlannedFault {
  const total = kinds.reduce((sum, kind) => sum + (kind.weight ?? 1), 0);
  let at = random() * total;
  const kind = kinds.find((each) => (at -= each.weight ?? 1) < 0) ?? kinds.at(-1)!;
  const [from, to] = kind.lastsMs;
  return {
    kind: kind.name,
    target: pick(random, kind.targets(form)),
    afterMs: Math.round(50 + random() * 350),
    lastsMs: Math.round(from + random() * (to - from)),
  };
}

function pick<T>(random: () => number, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)]!;
}
