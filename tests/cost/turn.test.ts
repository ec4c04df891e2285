/**
 * How much of a request is looked at in one turn of the event loop, however large it is: counted in bytes. `node tests/cost/hold.ts`
 * says how long that takes.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { loadConfig } from '@nrdot/config';
import { walk } from '@nrdot/otlp';
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
/** The classifier may read all of what describes items, and of those little. */
const CLASSIFIED_MAX_BYTES = MIB;
/** Unless its rules test items. */
const EXAMINED_MAX_ITEMS = 8_192;
/** Not large by its bytes. */
const SMALL_BYTES = { traces: 0.9 * MIB, metrics: 0.24 * MIB, logs: 0.9 * MIB };

const { priority: byDefault } = loadConfig({ env: {} }).config;
const { priority: byItem } = loadConfig({
  env: {},
  text: `priority:
  rules:
    - {class: critical, scope: {regex: "^n"}, signal: logs}
    - {class: critical, signal: traces, span: {regex: "^system"}}
    - {class: high, signal: logs, severity: {min: error}}
    - {class: high, resource: {service.name: {regex: "7$"}}}
`,
}).config;
const large = new LargeRequests();
afterAll(() => large.stop());

interface Looked {
  limited: number;
  classified: number;
  /** Items of which rules may test each. */
  examined: number;
}

/** Takes a request as a receiver does. @returns the most that was looked at in one turn */
async function mostInOneTurn(signal: Walked, wire: Buffer, priority = byDefault): Promise<Looked> {
  const classifier = new Classifier(priority);
  const limiter = new CardinalityLimiter(limiterOptions(), { now: () => 1_000_000, seed: 1 });
  const most: Looked = { limited: 0, classified: 0, examined: 0 };
  const nothing: Looked = { ...most };
  let now = nothing;
  const look = (what: keyof typeof most, bytes: number) => {
    now[what] += bytes;
    most[what] = Math.max(most[what], now[what]);
  };
  let isOver = false;
  const turns = (async () => {
    for (; !isOver; await turn()) now = { ...nothing };
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
        look('classified', body.byteLength);
        if (classifier.readsItems(of)) look('examined', walk(of, body).items);
        return classifier.classify(of, body);
      },
      rules: () => classifier,
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
    const { limited, classified } = await mostInOneTurn(signal, ofBytes(make, LARGE_BYTES));
    expect(limited).toBeLessThanOrEqual(LIMITED_MAX_BYTES);
    expect(classified).toBeLessThanOrEqual(CLASSIFIED_MAX_BYTES);
  });

  it.each(shapesOf(signal))('%s, with rules that test items', async (_, make) => {
    const { examined } = await mostInOneTurn(signal, ofBytes(make, SMALL_BYTES[signal]), byItem);
    expect(examined).toBeLessThanOrEqual(EXAMINED_MAX_ITEMS);
  });
});
