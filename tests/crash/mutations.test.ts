/**
 * The crash model finds what it is for: the product's scripts, each broken in one place, must fail within some schedules.
 * These are the mutations that few schedules find; rarer ones take `make crash-model`.
 */
import { SegmentLog } from '@nrdot/segment-log';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Ledger } from '../../services/dlq/src/ledger.ts';
import { Choices } from './choices.ts';
import { explore } from './explore.ts';
import { REGRESSIONS } from './regressions.ts';
import { runSchedule } from './schedule.ts';
import { installVirtualTime } from './virtual-time.ts';
import { withScripts } from './with-scripts.ts';

vi.mock('@mongodb-js/zstd', () => import('./zstd.ts'));

const SCHEDULES = 4_000;
const SEED = 20_261_125;
/** Power has to go at the right time: one schedule in some thousands. */
const LOSING_SEED = 504_000;

/** A dlq has to be killed between its checkpoint and its ledger, while somebody purges. */
const PURGING_SEED = 4_000_000;

/** What is broken, where it stands, what stands there instead, and what the model should say. */
const MUTATIONS: readonly [what: string, sound: string, broken: string, finds: RegExp][] = [
  [
    'a batch that was settled is settled again',
    'if not seen[payload] and is_held(payload) then',
    'if not seen[payload] then',
    /the depth says|books do not balance/,
  ],
  [
    'what is said to be enqueued has no job',
    "put_job(prefix, (replay and 'replay-' or '') .. class, key",
    "if i > 15 then return results end put_job(prefix, (replay and 'replay-' or '') .. class, key",
    /is in no job|the depth says|lost/,
  ],
  [
    'the hand-over gives no new name',
    "rcall('RENAME', payload(batch.old), payload(batch.key))",
    '',
    /the depth says|is in no job|no such key/,
  ],
  [
    'a hand-over that comes again removes what is held',
    'elseif not is_held(payload(batch.key)) then',
    'else',
    /the depth says|lost/,
  ],
  [
    'the move counts a batch where it was',
    'count(group.from .. classes[best], -#job.batches',
    'count(group.to .. classes[best], -#job.batches',
    /the depth says/,
  ],
  [
    'what goes straight to the exporter is in no queue',
    "token ~= '' and 'active' or",
    "token ~= '' and 'nowhere' or",
    /is in no job/,
  ],
  [
    'what goes past the scheduler is in no queue',
    "and 'active' or 'wait') then",
    "and 'active' or 'nowhere') then",
    /is in no job/,
  ],
];

let restore: () => void;
beforeAll(() => {
  restore = installVirtualTime();
});
afterAll(() => restore());

describe('the crash model finds that', () => {
  it.each(MUTATIONS)('%s', async (_what, sound, broken, finds) => {
    const { failure } = await withScripts([{ sound, broken }], () =>
      explore(SCHEDULES, SEED, { shrinkingRuns: 0 }),
    );
    expect(failure?.broken).toMatch(finds);
  });

  it('a spilled batch is settled before it is on disk', async () => {
    const append = SegmentLog.prototype.append;
    const spy = vi.spyOn(SegmentLog.prototype, 'append').mockImplementation(async function (
      this: SegmentLog,
      ...args
    ) {
      append.apply(this, args).catch(() => {});
    });
    try {
      const { failure } = await explore(SCHEDULES, LOSING_SEED, { shrinkingRuns: 0 });
      expect(failure?.broken).toMatch(/acknowledged and lost/);
    } finally {
      spy.mockRestore();
    }
  });

  it('a write-off is reported by the log but not found again after a kill', async () => {
    const { writtenOff } = Ledger.prototype;
    const opened = new WeakMap<Ledger, Set<string>>();
    const spy = vi.spyOn(Ledger.prototype, 'writtenOff').mockImplementation(function (
      this: Ledger,
      area,
      totals,
    ) {
      const areas = opened.get(this) ?? new Set();
      opened.set(this, areas);
      if (areas.has(area)) return writtenOff.call(this, area, totals);
      areas.add(area); // what the log tells when it is opened
      return Promise.resolve();
    });
    try {
      const { failure } = await explore(SCHEDULES, PURGING_SEED, { shrinkingRuns: 0 });
      expect(failure?.broken).toMatch(/books do not balance/);
    } finally {
      spy.mockRestore();
    }
  });

  it.each(REGRESSIONS.flatMap(({ what, undo, choices }) => (undo ? [[what, undo, choices] as const] : [])))(
    'it is not so: %s',
    async (_what, { fixed, before }, choices) => {
      const result = await withScripts([{ sound: fixed, broken: before }], () =>
        runSchedule(Choices.replayed(choices)),
      );
      expect(result.broken).toBeDefined();
    },
  );
});
