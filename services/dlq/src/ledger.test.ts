import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { seeded } from '../../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../../shared/segment-log/test/simulated-disk.ts';
import { type Entry, Ledger } from './ledger.ts';

let dir: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => dir[Symbol.dispose]());

/** Books as Redis does: once for each id. */
function books() {
  const counts: Record<string, number> = {};
  const seen = new Set<string>();
  return {
    counts,
    book: async ({ id, counts: told }: Entry) => {
      if (seen.has(id)) return;
      seen.add(id);
      for (const [field, items] of Object.entries(told)) counts[field] = (counts[field] ?? 0) + items;
    },
  };
}

describe('the ledger of the dlq', () => {
  it.each([
    '',
    '{',
    '[]',
    'null',
    '{"entries":[]}',
    '{"counts":{"accepted":"7"}}',
    '{"counts":{},"writtenOff":5}',
    '{"counts":{},"unsettled":[5]}',
  ])('rejects a file that was modified: %s', async (text) => {
    writeFileSync(join(dir.path, 'ledger.json'), text);
    await expect(Ledger.open(dir.path)).rejects.toThrow(
      /ledger\.json is damaged; expected JSON with "counts"/,
    );
  });

  it('keeps entries across a kill, and reports them once', async () => {
    const first = await Ledger.open(dir.path);
    await Promise.all([
      first.add('accepted', 3),
      first.add('accepted', 4),
      first.add('dropped:corrupted', 1),
    ]);
    const again = await Ledger.open(dir.path);
    expect([again.pending('accepted'), again.pending('dropped:corrupted')]).toEqual([7, 1]);
    const redis = books();
    await again.tell(redis.book);
    await again.tell(redis.book);
    expect(redis.counts).toEqual({ accepted: 7, 'dropped:corrupted': 1 });
    expect((await Ledger.open(dir.path)).pending('accepted')).toBe(0);
  });

  it('names the limit that caused a drop: the rejected area has its own', async () => {
    const ledger = await Ledger.open(dir.path);
    const none = { retention: 0, capacity: 0, purged: 0, corrupted: 0 };
    await ledger.writtenOff('normal', { ...none, capacity: 1, retention: 2 });
    await ledger.writtenOff('rejected', { retention: 3, capacity: 4, purged: 5, corrupted: 6 });
    const redis = books();
    await ledger.tell(redis.book);
    expect(redis.counts).toEqual({
      ...{ 'dropped:capacity': 1, 'dropped:retention': 2 },
      ...{ 'dropped:rejected_retention': 3, 'dropped:rejected_capacity': 4 },
      ...{ 'dropped:purged': 5, 'dropped:corrupted': 6 },
    });
  });

  it('repeats the same entry if the answer was lost or the kill came after it', async () => {
    const redis = books();
    const ledger = await Ledger.open(dir.path);
    await ledger.add('accepted', 5);
    const unheard = async (entry: Entry) => {
      await redis.book(entry);
      throw new Error('the answer got lost');
    };
    await expect(ledger.tell(unheard)).rejects.toThrow('got lost');
    await ledger.add('accepted', 2);
    expect(ledger.pending('accepted')).toBe(7);
    const again = await Ledger.open(dir.path);
    expect(again.pending('accepted')).toBe(7);
    await again.tell(redis.book);
    await again.tell(redis.book);
    expect(redis.counts).toEqual({ accepted: 7 });
    expect(again.pending('accepted')).toBe(0);
  });

  it('keeps in memory what it could not write, and writes it with the next entry', async () => {
    const ledger = await Ledger.open(join(dir.path, 'not-there-yet'));
    await expect(ledger.add('accepted', 2)).rejects.toThrow('ENOENT');
    expect(ledger.pending('accepted')).toBe(2);
  });
});

describe('a disk that accepts no writes', () => {
  /** A ledger on a disk that fails as told, with 3 items accepted that are in its file. */
  async function onDisk() {
    const disk = new SimulatedDisk(seeded(1));
    const fs = disk.fileSystem();
    await fs.mkdir('/dlq');
    const fail = (code?: string) => {
      disk.beforeWrite = code
        ? () => {
            throw Object.assign(new Error(code), { code });
          }
        : undefined;
    };
    const ledger = await Ledger.open('/dlq', fs);
    await ledger.add('accepted', 3);
    return { ledger, fail, again: () => Ledger.open('/dlq', fs) };
  }

  it('keeps an entry from the accounting until it is in the file, so that a kill does not add it twice', async () => {
    const redis = books();
    const { ledger, fail, again } = await onDisk();
    fail('EROFS');
    for (let i = 0; i < 3; i++) await ledger.tell(redis.book).catch(() => {});
    const killed = await again();
    for (let i = 0; i < 3; i++) await killed.tell(redis.book).catch(() => {});
    fail();
    await killed.tell(redis.book);
    await killed.tell(redis.book);
    expect(redis.counts).toEqual({ accepted: 3 });
  });

  it('adds an entry that is in the file, also after a kill', async () => {
    const redis = books();
    const { ledger, fail, again } = await onDisk();
    const unheard = async () => {
      throw new Error('the answer got lost');
    };
    await expect(ledger.tell(unheard)).rejects.toThrow('got lost');
    fail('EROFS');
    const killed = await again();
    for (const each of [ledger, killed, ledger, killed]) await each.tell(redis.book).catch(() => {});
    expect(redis.counts).toEqual({ accepted: 3 });
  });
});
