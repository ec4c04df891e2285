import { gzipSync } from 'node:zlib';
import { OtlpError } from '@nrdot/otlp';
import { type Batch, type EnqueueResult, NotSent, type Preparation } from '@nrdot/queue';
import { NotReplicated } from '@nrdot/redis';
import { describe, expect, it } from 'vitest';
import { type IngestDeps, ingest, sendHeld } from './ingest.ts';

const SPAN = Buffer.from('{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}');
const POINTS = Buffer.from(
  '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}}]}]}]}',
);

/** What a client is told whose request has two parts. */
async function refusal(deps: Pick<IngestDeps, 'enqueue'> & Partial<IngestDeps>): Promise<OtlpError> {
  const part = Buffer.from([10, 6, 18, 4, 18, 2, 42, 0]); // a resource, a scope, a span
  return ingest(
    {
      signal: 'traces',
      format: 'json',
      encoding: 'identity',
      wire: SPAN,
      reservation: { reserve: () => {}, look: () => {}, release: () => {} },
    },
    { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' },
    {
      store: undefined,
      limit: undefined,
      classify: () => [
        { class: 'high', body: part },
        { class: 'normal', body: part },
      ],
      now: Date.now,
      ...deps,
    },
  ).then(
    () => expect.fail('it was acknowledged'),
    (error: unknown) => {
      if (!(error instanceof OtlpError)) throw error;
      expect(error.httpStatus).toBe(503);
      return error;
    },
  );
}

const answers = (...results: EnqueueResult[]) => ({ enqueue: async () => results });
const fails = (error: Error) => ({
  enqueue: async () => {
    throw error;
  },
});
const NOTHING = /; nothing of this request was stored; try again later$/;
const UNKNOWN = /; it may still have been stored, in whole or in part/;

it('answers 413 to a request that even an empty queue could not hold, because a retry cannot succeed', async () => {
  const offered = (queue: { bytes: number; items: number }) =>
    ingest(
      {
        signal: 'traces',
        format: 'json',
        encoding: 'identity',
        wire: SPAN,
        reservation: { reserve: () => {}, look: () => {}, release: () => {} },
      },
      { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item', queue },
      {
        ...answers('full'),
        store: undefined,
        limit: undefined,
        classify: () => [{ class: 'high', body: undefined }],
        now: Date.now,
      },
    ).catch((error: OtlpError) => error.httpStatus);
  expect(await offered({ bytes: 5, items: 100 })).toBe(413);
  expect(await offered({ bytes: 1_000, items: 0 })).toBe(413);
  expect(await offered({ bytes: 1_000, items: 100 })).toBe(503);
});

describe('a 503', () => {
  it('says that nothing was stored only if that is certain', async () => {
    const cases: [string, Parameters<typeof refusal>[0], RegExp][] = [
      ['queue_full', answers('full', 'full'), NOTHING],
      ['not_kept', answers('lost', 'lost'), NOTHING],
      ['not_kept', answers('queued', 'lost'), UNKNOWN],
      ['redis_full', answers('no_memory', 'no_memory'), NOTHING],
      ['redis_full', answers('no_memory', 'queued'), UNKNOWN],
      ['redis_unavailable', fails(new NotSent('connection lost')), NOTHING],
      ['redis_unavailable', fails(new Error('Command timed out')), UNKNOWN],
      ['redis_unavailable', fails(new NotReplicated('0 replicas have it')), UNKNOWN],
    ];
    for (const [code, deps, said] of cases) {
      const error = await refusal(deps);
      expect([error.code, error.message]).toEqual([code, expect.stringMatching(said)]);
    }
  });

  it('does not say so if one part is on disk and another is not', async () => {
    const stored: Batch[] = [];
    const store = async (batch: Batch) => {
      if (stored.length > 0) throw new Error('the dlq answered 503: full');
      stored.push(batch);
    };
    const error = await refusal({ ...fails(new NotSent('connection lost')), store });
    expect(stored).toHaveLength(1);
    expect([error.code, error.message]).toEqual(['nowhere_durable', expect.stringMatching(UNKNOWN)]);
  });
});

describe('check.fix', () => {
  const request = (value: string) =>
    Buffer.from(
      JSON.stringify({
        resourceLogs: [
          { scopeLogs: [{ logRecords: [{ attributes: [{ key: 'k', value: { stringValue: value } }] }] }] },
        ],
      }),
    );
  const offered = async (wire: Buffer, result: EnqueueResult, format: 'json' | 'protobuf' = 'protobuf') => {
    const batches: Batch[] = [];
    const counted: number[] = [];
    const reservation = { reserve: () => {}, look: () => {}, release: () => {} };
    await ingest(
      { signal: 'logs', format, encoding: format === 'json' ? 'identity' : 'gzip', wire, reservation },
      { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' },
      {
        enqueue: async (all) => {
          batches.push(...all);
          return all.map(() => result);
        },
        store: undefined,
        limit: undefined,
        classify: () => [{ class: 'high', body: undefined }],
        fix: { isOn: true, count: (_, counts) => counted.push(...counts.filter((items) => items > 0)) },
        now: Date.now,
      },
    ).catch(() => {});
    return { batch: batches[0]!, counted };
  };

  it('forwards a request without violations byte for byte, and counts only acknowledged ones', async () => {
    const clean = await offered(request('v'), 'queued', 'json');
    const wire = gzipSync(clean.batch.payload);
    const same = await offered(wire, 'queued');
    expect(same.batch.payload).toBe(wire);
    expect(same.counted).toEqual([]);
    const long = await offered(request('v'.repeat(4_096)), 'queued', 'json');
    expect(long.batch.payload.byteLength).toBe(clean.batch.payload.byteLength + 4_094 + 6);
    expect(long.counted).toEqual([1]);
    expect((await offered(request('v'.repeat(4_096)), 'full', 'json')).counted).toEqual([]);
  });
});

const CLASSES = ['normal', 'high'] as const;

/**
 * A request of metrics whose turn never comes, or whose step fails.
 * @param results what the step says instead of failing
 * @param partsOf of how many classes it is each time that it is prepared
 */
async function metricsWithout(
  turn: boolean,
  limited: { needsLedger?: boolean; isHeld?: boolean; body?: Buffer },
  results?: EnqueueResult[],
  partsOf = () => results?.length ?? 1,
) {
  const done: string[] = [];
  const { needsLedger = false, isHeld = false } = limited;
  const what = {
    ...{ dropped: 0, message: '', needsLedger, isHeld, claim: undefined },
    undo: () => void done.push('undone'),
    wentElsewhere: () => void done.push('told later'),
    count: () => void done.push('counted'),
  };
  const answer = await ingest(
    {
      ...{ signal: 'metrics', format: 'json', encoding: 'identity', wire: POINTS },
      reservation: { reserve: () => {}, look: () => {}, release: () => {} },
    },
    { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' },
    {
      enqueue: () => expect.fail('it is a request of metrics'),
      store: async () => void done.push('stored'),
      limit: {
        limit: (whole) => ({
          ...what,
          bodies: [limited.body ?? whole],
          isChanged: limited.body !== undefined,
        }),
        limitPieces: () => expect.fail('it is one body'),
        enqueue: async (request) => {
          if (turn) await request.prepare();
          if (results) return results;
          throw new NotSent('Redis did not answer within 2 s');
        },
        busy: false,
      },
      classify: (_, body) =>
        CLASSES.slice(0, partsOf()).map((name) => ({ class: name, body: results && body })),
      now: Date.now,
    },
  ).catch((error: OtlpError) => error.code);
  return { answer, done };
}

it('metrics still waiting for their turn when Redis hangs go to the dlq like all others', async () => {
  expect(await metricsWithout(false, {})).toMatchObject({
    answer: { items: 2 },
    done: ['undone', 'stored', 'told later', 'counted'],
  });
  expect(await metricsWithout(true, {})).toMatchObject({
    answer: { items: 2 },
    done: ['stored', 'told later', 'counted'],
  });
});

it('metrics go to the dlq as a whole if Redis had no memory for one part: no part was stored', async () => {
  for (const results of [
    ['no_memory', 'again'],
    ['again', 'no_memory'],
  ] as EnqueueResult[][])
    expect(await metricsWithout(true, {}, results)).toMatchObject({
      done: ['stored', 'stored', 'told later', 'counted'],
    });
});

it('deferred points stay in Redis when their request goes to the dlq, prepared again without them', async () => {
  // With what waited it was one batch; without, it is two.
  const parts = [1, 2];
  const { done } = await metricsWithout(true, { isHeld: true }, ['no_memory'], () => parts.shift()!);
  expect(done).toEqual(['undone', 'stored', 'stored', 'told later', 'counted']);
});

it('a request that needs the ledger is not acknowledged without it, even if nothing has to be stored', async () => {
  for (const body of [undefined, Buffer.alloc(0)])
    for (const turn of [false, true])
      expect(await metricsWithout(turn, { needsLedger: true, ...(body && { body }) })).toEqual({
        answer: 'no_ledger',
        done: turn ? [] : ['undone'],
      });
});

it('counts what the limiter did once, on acknowledgement, not on each refusal', async () => {
  let counted = 0;
  const limited = {
    dropped: 1,
    message: 'one too many',
    needsLedger: false,
    isHeld: false,
    claim: undefined,
    undo: () => {},
    wentElsewhere: () => {},
    count: () => void counted++,
  };
  const send = (enqueue: IngestDeps['enqueue'], body?: Buffer) =>
    ingest(
      {
        signal: 'metrics',
        format: 'json',
        encoding: 'identity',
        wire: POINTS,
        reservation: { reserve: () => {}, look: () => {}, release: () => {} },
      },
      { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' },
      {
        enqueue,
        store: undefined,
        limit: {
          limit: (whole) => ({ ...limited, bodies: [body ?? whole], isChanged: body !== undefined }),
          limitPieces: () => expect.fail('it is one body'),
          enqueue: async (request) => enqueue((await request.prepare()).batches),
          busy: false,
        },
        classify: () => [{ class: 'normal', body: undefined }],
        now: Date.now,
      },
    );
  await expect(send(answers('full').enqueue)).rejects.toThrow('capacity');
  await expect(send(fails(new Error('Command timed out')).enqueue)).rejects.toThrow('confirm');
  expect(counted).toBe(0);
  expect(await send(answers('queued').enqueue)).toMatchObject({ items: 2, partial: { rejected: 1 } });
  expect(counted).toBe(1);
  // Nothing is left of it: there is nothing to keep, and it is acknowledged all the same.
  expect(await send(answers().enqueue, Buffer.alloc(0))).toMatchObject({
    items: 0,
    partial: { rejected: 1 },
  });
  expect(counted).toBe(2);
});

it.each<EnqueueResult>(['no_memory', 'full', 'lost'])(
  'deferred points keep waiting if they are not stored (%s), and are not counted',
  async (result) => {
    const point = Buffer.from([10, 8, 18, 6, 18, 4, 42, 2, 10, 0]); // a resource, a scope, a gauge, a point
    const limit = {
      limit: () => ({
        ...{
          bodies: [point],
          isChanged: true,
          dropped: 0,
          message: '',
          needsLedger: false,
          isHeld: true,
          claim: undefined,
        },
        undo: () => {},
        wentElsewhere: () => {},
        count: () => expect.fail('it is counted'),
      }),
      limitPieces: () => expect.fail('it is one body'),
      enqueue: async (request: Preparation) => (await request.prepare()).batches.map(() => result),
      busy: false,
    };
    const sent = sendHeld(
      { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' },
      {
        enqueue: () => expect.fail('it is a request of metrics'),
        store: undefined,
        limit,
        classify: () => [{ class: 'normal', body: undefined }],
        now: Date.now,
      },
      limit,
    );
    await expect(sent).rejects.toMatchObject({ httpStatus: 503, message: expect.stringMatching(NOTHING) });
  },
);
