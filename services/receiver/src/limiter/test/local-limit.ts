import { setImmediate as turn } from 'node:timers/promises';
import type { Batch, EnqueueResult } from '@nrdot/queue';
import type { Limited, MetricsLimit } from '../../ingest.ts';
import type { CardinalityLimiter } from '../index.ts';

/** A limiter in its place without Redis: nothing is shared, and every request is kept. */
export function localLimit(
  limiter: CardinalityLimiter,
  enqueue: (batches: readonly Batch[]) => Promise<EnqueueResult[]>,
): MetricsLimit {
  const limit = (body: Buffer): Limited => {
    const { body: out, droppedPoints } = limiter.process(body);
    limiter.keep();
    return {
      bodies: [out === body ? body : Buffer.from(out)],
      isChanged: out !== body,
      dropped: droppedPoints,
      message: '',
      needsLedger: false,
      isHeld: false,
      claim: undefined,
      undo: () => {},
      wentElsewhere: () => {},
      count: () => {},
    };
  };
  return {
    limit,
    limitPieces: async (pieces) => {
      const all: Limited[] = [];
      for (const piece of pieces) {
        all.push(limit(piece));
        await turn();
      }
      return {
        ...all[0]!,
        bodies: all.flatMap(({ bodies }) => bodies),
        isChanged: all.some(({ isChanged }) => isChanged),
        dropped: all.reduce((sum, { dropped }) => sum + dropped, 0),
      };
    },
    enqueue: async (request) => enqueue((await request.prepare()).batches),
    busy: false,
  };
}
