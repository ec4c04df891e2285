/** The cardinality limiter, with labels given up and budgets that are full: whatever comes is merged, dropped or passed, and counted. */
import { OtlpError, walk } from '@nrdot/otlp';
import { seededRandom } from '@nrdot/testbed';
import { CardinalityLimiter } from '../../services/receiver/src/limiter/index.ts';
import { limiterOptions } from '../../services/receiver/src/limiter/test/options.ts';
import { drawMetrics, LABELS, METRIC_NAMES, manyValues } from './metrics.ts';
import type { Random } from './mutate.ts';
import type { Target } from './targets.ts';

const CORPUS = 64;
const CORPUS_SEED = 7;
/** So many inputs share a limiter: what one leaves behind is what the next may fall over. */
const INPUTS_PER_LIMITER = 128;
const MAX_KEYS = 4_096;
/** A budget that is soon used up. */
const FEW_KEYS = 24;
const START_MS = 1_700_000_000_000;

export function limiterTarget(): Target {
  let limiter: CardinalityLimiter | undefined;
  let nowMs = START_MS;
  let left = 0;
  return {
    name: 'limiter',
    corpus: async () => {
      const random = seededRandom(CORPUS_SEED);
      return Array.from({ length: CORPUS }, () => drawMetrics(random));
    },
    draw: drawMetrics,
    take: (bytes, random) => {
      const { items } = walk('metrics', bytes);
      if (!limiter || left-- <= 0) {
        limiter = actingLimiter(
          () => nowMs,
          (ms) => (nowMs += ms),
          random,
        );
        left = INPUTS_PER_LIMITER;
      }
      nowMs += Math.floor(random() * 2_000);
      const before = Buffer.from(bytes);
      const { body, points, ends, droppedPoints, aggregatedPoints } = limiter.process(bytes);
      // One in five is refused further on: what it changed is taken back.
      if (random() < 0.2) limiter.undo();
      else limiter.keep();
      if (!before.equals(bytes)) throw new Error('the request itself was changed');
      if (points + droppedPoints + aggregatedPoints !== items)
        throw new Error(`${items} points became ${points} + ${droppedPoints} + ${aggregatedPoints}`);
      const outgoing = walk('metrics', body).items;
      if (outgoing !== points + ends)
        throw new Error(`${points} points and ${ends} ends are said to go out, and ${outgoing} do`);
    },
    known: (error) => error instanceof OtlpError,
  };
}

/** One that has given labels up, and one time in four has hardly any key left, so that points overflow. */
function actingLimiter(now: () => number, pass: (ms: number) => void, random: Random): CardinalityLimiter {
  const limiter = new CardinalityLimiter(
    limiterOptions({
      maxKeys: MAX_KEYS,
      actAbove: 0,
      aggregateLabels: LABELS.filter((label) => label !== 'route'),
      criticalAction: random() < 0.5 ? 'overflow' : 'drop',
    }),
    { now, seed: 1 },
  );
  for (const metric of METRIC_NAMES)
    for (const label of LABELS)
      for (let from = 0; from < 400; from += 100) {
        pass(1_000);
        limiter.process(manyValues(metric, label, 100, from));
        limiter.keep();
      }
  if (random() < 0.25) limiter.learnTotals(limiter.keysLimit - FEW_KEYS, 0);
  return limiter;
}
