/**
 * How much of a request is looked at in one turn of the event loop, however large it is: counted in bytes. `node tests/cost/hold.ts`
 * says how long that takes.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { loadConfig } from '@nrdot/config';
import { describingBytes } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';
import { afterAll, describe, expect, it } from 'vitest';
import { Classifier } from '../../services/receiver/src/classifier/classifier.ts';
import { ingest } from '../../services/receiver/src/ingest.ts';
import { LargeRequests } from '../../services/receiver/src/large-request.ts';
import { CardinalityLimiter } from '../../services/receiver/src/limiter/index.ts';
import { localLimit } from '../../services/receiver/src/limiter/test/local-limit.ts';
import { limiterOptions } from '../../services/receiver/src/limiter/test/options.ts';
import { ofBytes, shapesOf, WALKED, type Walked } from './shapes.ts';

const MIB = 2 ** 20;
const LARGE_BYTES = 1.5 * MIB;
const TIMEOUT_MS = 120_000;
/** The limiter reads all of what it is given. */
const LIMITED_MAX_BYTES = MIB / 4;
/** The classifier reads what describes items, and of those little. */
const DESCRIBING_MAX_BYTES = MIB;

const { priority } = loadConfig({ env: {} }).config;
const large = new LargeRequests();
afterAll(() => large.stop());

/** Takes a request as a receiver with default options does. @returns the most that was looked at in one turn */
async function mostInOneTurn(signal: Walked, wire: Buffer): Promise<{ limited: number; described: number }> {
  const classifier = new Classifier(priority);
  const limiter = new CardinalityLimiter(limiterOptions(), { now: () => 1_000_000, seed: 1 });
  const most = { limited: 0, described: 0 };
  let now = { limited: 0, described: 0 };
  const look = (what: keyof typeof most, bytes: number) => {
    now[what] += bytes;
    most[what] = Math.max(most[what], now[what]);
  };
  let isOver = false;
  const turns = (async () => {
    for (; !isOver; await turn()) now = { limited: 0, described: 0 };
  })();
  const process = limiter.process.bind(limiter);
  limiter.process = (body, isAlone) => {
    look('limited', body.byteLength);
    return process(body, isAlone);
  };
  const enqueue = async (batches: readonly Batch[]) => batches.map(() => 'queued' as const);
  await ingest(
    {
      ...{ signal, format: 'protobuf', encoding: 'identity', wire },
      reservation: { reserve: () => {}, look: () => {}, release: () => {} },
    },
    { maxBodyBytes: 1e9, maxDepth: 64, invalidUtf8: 'reject_item' },
    {
      enqueue,
      store: undefined,
      limit: localLimit(limiter, enqueue),
      classify: (of, body) => {
        look('described', describingBytes(of, body));
        return classifier.classify(of, body);
      },
      large,
      now: () => 1_000,
    },
  );
  isOver = true;
  await turns;
  return most;
}

describe.each(WALKED)('%s', (signal) => {
  it.each(shapesOf(signal))('%s', { timeout: TIMEOUT_MS }, async (_, make) => {
    const { limited, described } = await mostInOneTurn(signal, ofBytes(make, LARGE_BYTES));
    expect(limited).toBeLessThanOrEqual(LIMITED_MAX_BYTES);
    expect(described).toBeLessThanOrEqual(DESCRIBING_MAX_BYTES);
  });
});
