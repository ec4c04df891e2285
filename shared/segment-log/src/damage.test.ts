import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ids, noise, options, readAll, record, seeded, type Told } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { encodeBlockHeader, packBlock } from './block.ts';
import { SegmentLog, type SegmentLogOptions } from './index.ts';
import { encodeIdentity } from './segment-header.ts';

describe('the segment log, damaged', () => {
  /** 12 records of one item in four sealed segments and one open, the first three records acknowledged. */
  async function laidDown(): Promise<{ disk: SimulatedDisk; o: SegmentLogOptions; told: Told }> {
    const disk = new SimulatedDisk(seeded(5));
    const { o, told } = options(disk, { segmentBytes: 1_700 });
    const log = await SegmentLog.open(o);
    for (let i = 0; i < 12; i++) {
      const r = record(`r${i}`, 1, 300);
      r.payload = noise(300, i);
      await log.append('normal', r);
    }
    for (let i = 0; i < 3; i++) log.ack((await log.read('normal'))!.position);
    await log.close();
    return { disk, o, told };
  }
  const path = (disk: SimulatedDisk, n: number) => disk.paths().filter((p) => /\.(seg|open)$/.test(p))[n]!;
  const flip = (disk: SimulatedDisk, p: string, at: number) => {
    const bytes = Buffer.from(disk.bytes(p));
    bytes[at]! ^= 0x40;
    disk.replace(p, bytes);
  };
  const blockOf = (disk: SimulatedDisk, p: string, n: number): number => {
    let at = 512;
    const isMark = () => disk.bytes(p).readUInt32LE(at + 12) === 0;
    for (let left = n; left > 0 || isMark(); at += 56 + disk.bytes(p).readUInt32LE(at + 4))
      if (!isMark()) left--;
    return at;
  };

  /** What is damaged → how many of the 12 records, and of the 9 not acknowledged, must come back; and items known lost. */
  const ROWS: [
    string,
    (disk: SimulatedDisk) => void,
    { owed: number; lost?: number; quarantined: number },
  ][] = [
    ['nothing', () => {}, { owed: 9, quarantined: 0 }],
    ['the magic of a sealed header', (d) => flip(d, path(d, 1), 0), { owed: 9, quarantined: 1 }],
    ['the sequence in a sealed header', (d) => flip(d, path(d, 1), 16), { owed: 9, quarantined: 1 }],
    ['the CRC of the identity', (d) => flip(d, path(d, 1), 33), { owed: 9, quarantined: 1 }],
    ['the bytes between identity and seal', (d) => flip(d, path(d, 1), 37), { owed: 9, quarantined: 0 }],
    ['the reserved bytes of the seal', (d) => flip(d, path(d, 1), 300), { owed: 9, quarantined: 1 }],
    ['the CRC of the seal', (d) => flip(d, path(d, 1), 509), { owed: 9, quarantined: 1 }],
    ['counts in a sealed header', (d) => flip(d, path(d, 1), 65), { owed: 9, quarantined: 1 }],
    ['the hash in a sealed header', (d) => flip(d, path(d, 1), 100), { owed: 9, quarantined: 1 }],
    [
      'a block header',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 1) + 8),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'the magic of a block header',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 1)),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'the CRC of a block header',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 1) + 53),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'the content of a block',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 0) + 60),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'a block checksum',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 0) + 28),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'the content of a block in the open segment',
      (d) => flip(d, d.paths().find((p) => p.endsWith('.open'))!, 600),
      { owed: 8, quarantined: 1 },
    ],
    [
      'the tail: cut off',
      (d) => {
        const p = d.paths().find((x) => x.endsWith('.open'))!;
        d.replace(p, d.bytes(p).subarray(0, -20));
      },
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    [
      'the tail: zeros after it',
      (d) => {
        const p = d.paths().find((x) => x.endsWith('.open'))!;
        d.replace(p, Buffer.concat([d.bytes(p), Buffer.alloc(5_000)]));
      },
      { owed: 9, quarantined: 0 },
    ],
    [
      'the tail of a sealed segment: cut off',
      (d) => d.replace(path(d, 1), d.bytes(path(d, 1)).subarray(0, -20)),
      { owed: 8, lost: 1, quarantined: 1 },
    ],
    ['the checkpoint', (d) => flip(d, '/dlq/normal/checkpoint', 12), { owed: 9, quarantined: 1 }],
    ['a missing checkpoint', (d) => d.remove('/dlq/normal/checkpoint'), { owed: 9, quarantined: 0 }],
    ['a missing file', (d) => d.remove(path(d, 1)), { owed: 6, lost: 3, quarantined: 0 }],
    [
      'a zero-filled file',
      (d) => d.replace(path(d, 1), Buffer.alloc(d.bytes(path(d, 1)).byteLength)),
      { owed: 6, lost: 3, quarantined: 1 },
    ],
    ['an empty file', (d) => d.replace(path(d, 1), Buffer.alloc(0)), { owed: 6, lost: 3, quarantined: 1 }],
    [
      'a file twice',
      (d) => d.replace('/dlq/normal/0000000000000099.seg', d.bytes(path(d, 1))),
      { owed: 9, quarantined: 1 },
    ],
    [
      'a file of a number that no segment has',
      (d) => d.replace('/dlq/normal/9999999999999999.seg', d.bytes(path(d, 1))),
      { owed: 9, quarantined: 1 },
    ],
    [
      'two files swapped',
      (d) => {
        const [a, b] = [path(d, 1), path(d, 2)];
        const keep = Buffer.from(d.bytes(a));
        d.replace(a, d.bytes(b));
        d.replace(b, keep);
      },
      { owed: 9, quarantined: 2 },
    ],
    [
      'a file that is no segment',
      (d) => d.replace('/dlq/normal/notes.txt', Buffer.from('hello')),
      { owed: 9, quarantined: 0 },
    ],
  ];

  for (const [what, damage, expected] of ROWS) {
    it(`${what}: ${expected.owed} of 9 records survive`, async () => {
      const { disk, o, told } = await laidDown();
      damage(disk);
      const log = await SegmentLog.open(o);
      const found = await readAll(log, 'normal');
      const owed = Array.from({ length: 9 }, (_, i) => `r${i + 3}`);
      const back = owed.filter((id) => ids(found).includes(id));
      expect(back).toHaveLength(expected.owed);
      if (expected.lost !== undefined) {
        expect(told.corrupted.reduce((sum, { items }) => sum + items, 0)).toBe(expected.lost);
      }
      // Whatever comes back is whole, and nothing that can't be read is deleted.
      for (const entry of found) log.ack(entry.position);
      await log.maintain();
      await log.maintain();
      const kept = disk.paths().filter((p) => p.startsWith('/dlq/quarantine/') && !p.endsWith('.json'));
      expect(kept).toHaveLength(expected.quarantined);
      // And writing goes on.
      await log.append('normal', record('after'));
      await log.rewind('normal');
      expect(ids(await readAll(log, 'normal'))).toContain('after');
      await log.close();
    });
  }

  it.each(['there', 'acknowledged'] as const)(
    'does not read a copy of a segment in another directory while the segment is %s',
    async (original) => {
      const { disk, o, told } = await laidDown();
      const file = path(disk, 1);
      const copy = '/dlq/high/0000000000000007.seg';
      const bytes = Buffer.from(disk.bytes(file));
      if (original === 'acknowledged') {
        const log = await SegmentLog.open(o);
        for (const { position } of await readAll(log, 'normal')) log.ack(position);
        await log.maintain();
        await log.close();
        expect(disk.paths()).not.toContain(file);
      }
      disk.replace(copy, bytes);
      const log = await SegmentLog.open(o);
      expect(ids(await readAll(log, 'high'))).toEqual([]);
      const back = ids(await readAll(log, 'normal'));
      expect(new Set(back).size).toBe(back.length);
      expect(disk.paths()).not.toContain(copy);
      expect(disk.paths().filter((p) => p.startsWith('/dlq/quarantine/high-'))).toHaveLength(2); // and its report
      const place = original === 'there' ? 'in its place' : 'acknowledged';
      expect(told.corrupted).toContainEqual({
        ...{ file: copy, records: 0, items: 0 },
        reason: expect.stringMatching(`it is a copy of segment \\d+ of normal, which is ${place}`),
      });
      await log.close();
    },
  );

  it('reads a segment that was moved to another directory, because it may be the only copy', async () => {
    const { disk, o } = await laidDown();
    const file = path(disk, 1);
    disk.replace('/dlq/high/0000000000000007.seg', Buffer.from(disk.bytes(file)));
    disk.remove(file);
    const log = await SegmentLog.open(o);
    expect(ids(await readAll(log, 'high'))).toHaveLength(3);
    await log.close();
  });

  it('keeps all other blocks after any single bit flip', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat({ max: 3 }), fc.integer({ min: 0, max: 7 }), async (at, n, bit) => {
        const { disk, o } = await laidDown();
        const p = path(disk, n)!;
        const bytes = Buffer.from(disk.bytes(p));
        bytes[at % bytes.byteLength]! ^= 1 << bit;
        disk.replace(p, bytes);
        const log = await SegmentLog.open(o);
        const found = ids(await readAll(log, 'normal'));
        const owed = Array.from({ length: 9 }, (_, i) => `r${i + 3}`).filter((id) => found.includes(id));
        expect(owed.length).toBeGreaterThanOrEqual(8);
        await log.close();
      }),
      { numRuns: 300 },
    );
  });

  it('finds at the next start what it wrote after it had found a file of a number that no segment has', async () => {
    const disk = new SimulatedDisk(seeded(5));
    const { o } = options(disk, { segmentBytes: 600 });
    for (const number of ['9999999999999999', '9007199254740991']) {
      disk.replace(`/dlq/high/${number}.seg`, Buffer.from('odd'));
      const log = await SegmentLog.open(o);
      for (let i = 0; i < 3; i++)
        await log.append('high', { ...record(`${number}-${i}`), payload: noise(300, i) });
      await log.close();
    }
    const log = await SegmentLog.open(o);
    expect(ids(await readAll(log, 'high'))).toHaveLength(6);
    await log.close();
  });

  it('counts the items of a lost block header in a segment left open by a crash, unknown to any checkpoint', async () => {
    const disk = new SimulatedDisk(seeded(5));
    const { o, told } = options(disk, { segmentBytes: 1e6 });
    const before = await SegmentLog.open(o);
    for (let i = 0; i < 4; i++) await before.append('high', record(`r${i}`, 100 + i, 50, 'high'));
    disk.crash();
    const open = path(disk, 0);
    flip(disk, open, blockOf(disk, open, 1) + 8);
    flip(disk, open, blockOf(disk, open, 2) + 60);
    const log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect(log.stats('high').items).toBe(406);
    expect(ids(await readAll(log, 'high'))).toEqual(['r0', 'r3']);
    expect(told.corrupted.reduce((sum, { items }) => sum + items, 0)).toBe(203);
    await log.close();
  });

  it('counts the damaged end of an open segment as lost if a checkpoint knew it, even if nothing was read yet', async () => {
    const disk = new SimulatedDisk(seeded(5));
    const { o, told } = options(disk, { segmentBytes: 1e6 });
    const before = await SegmentLog.open(o);
    for (let i = 0; i < 3; i++) await before.append('high', record(`r${i}`, 100 + i, 50, 'high'));
    await before.maintain();
    disk.crash();
    const open = path(disk, 0);
    flip(disk, open, blockOf(disk, open, 2) + 60);
    const log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
    expect(log.stats('high').items).toBe(303);
    expect(ids(await readAll(log, 'high'))).toEqual(['r0', 'r1']);
    expect(told.corrupted.reduce((sum, { items }) => sum + items, 0)).toBe(102);
    await log.close();
  });

  it('takes a record whose envelope is not of the expected shape for damage, and reads the others', async () => {
    const { envelope, payload } = record('r', 5);
    const odd: object[] = [
      ...['id', 'signal', 'class', 'items', 'encoding', 'receivedAt', 'reason'].flatMap((name) =>
        [undefined, null, {}, name === 'items' || name === 'receivedAt' ? '5' : 5].map((value) => ({
          ...envelope,
          [name]: value,
        })),
      ),
      ...[-1, 0.5, 1e300, 2 ** 53].map((items) => ({ ...envelope, items })),
      ...[-1, 1e300].map((receivedAt) => ({ ...envelope, receivedAt })),
      ...['', '\ud800', 'a\n', 'a b'].map((id) => ({ ...envelope, id })),
      ...['__proto__', 'spans'].map((signal) => ({ ...envelope, signal })),
      ...[{ status: '400' }, { message: 5 }, { attempts: null }].map((more) => ({ ...envelope, ...more })),
      ...[null, 'text', 5, [1]].map((json) => ({ ...envelope, toJSON: () => json })),
    ];
    // By turns with good ones, alone in a block and with others, the last one odd.
    const parts = [
      encodeIdentity({ area: 'normal', sequence: 1, createdAt: 1_000, hasMarks: false, writtenBy: '0.1.0' }),
    ];
    const good: string[] = [];
    let [firstRecord, itemsBefore] = [0, 0];
    for (const [i, each] of odd.entries()) {
      const kept = { envelope: { ...envelope, id: `good-${i}` }, payload };
      const bad = { envelope: each as typeof envelope, payload };
      good.push(kept.envelope.id);
      for (const block of i % 2 === 0 ? [[kept, bad]] : [[kept], [bad]]) {
        const { header, stored } = await packBlock(block);
        parts.push(encodeBlockHeader({ ...header, firstRecord, itemsBefore }), stored);
        firstRecord += header.records;
        itemsBefore += header.items;
      }
    }
    const disk = new SimulatedDisk(seeded(5));
    const { o, told } = options(disk);
    disk.replace('/dlq/normal/0000000000000001.open', Buffer.concat(parts));
    const log = await SegmentLog.open(o);
    const found = await readAll(log, 'normal');
    expect(ids(found)).toEqual(good);
    expect(told.corrupted.map(({ records, items }) => [records, items])).toEqual([
      [0, 0], // the file is damaged
      [odd.length, itemsBefore - 5 * good.length],
    ]);
    for (const { position } of found) log.ack(position);
    await log.maintain();
    await log.maintain();
    expect(disk.paths().filter((p) => p.startsWith('/dlq/quarantine/'))).toHaveLength(2); // and its report
    expect(told.faults).toEqual([]);
    await log.close();
  });
});
