import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { readSegment } from '../test/independent-reader.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { crc32c, type Entry, NodeFileSystem, SegmentLog, type SegmentLogOptions } from './index.ts';
import { AREAS, type Area, type Record } from './record.ts';

const MIB = 1024 * 1024;
const record = (id: string, items = 1, bytes = 50, area: Area = 'normal', receivedAt = 1_000): Record => ({
  envelope: { id, signal: 'traces', class: area, items, encoding: 'gzip', receivedAt, reason: 'fill' },
  payload: Buffer.alloc(bytes, id),
});

interface Told {
  corrupted: { reason: string; items: number; records: number }[];
  dropped: { items: number; reason: string }[];
  faults: string[];
}

function options(
  disk: SimulatedDisk,
  more: Partial<SegmentLogOptions> = {},
): { o: SegmentLogOptions; told: Told } {
  const told: Told = { corrupted: [], dropped: [], faults: [] };
  const o: SegmentLogOptions = {
    dir: '/dlq',
    fs: disk.fileSystem(),
    segmentBytes: 2_000,
    capacityBytes: 100 * MIB,
    reserveBytes: 0,
    whenFull: 'refuse',
    retentionMs: 1e9,
    rejectedRetentionMs: 1e9,
    verifyBytesPerSecond: 1e9,
    events: {
      corrupted: ({ reason, items, records }) => told.corrupted.push({ reason, items, records }),
      dropped: (_area, items, reason) => told.dropped.push({ items, reason }),
      fault: (error) => told.faults.push(error.code),
    },
    now: () => 2_000,
    ...more,
  };
  return { o, told };
}

async function readAll(log: SegmentLog, area: Area): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let entry = await log.read(area); entry; entry = await log.read(area)) entries.push(entry);
  return entries;
}
const ids = (entries: Entry[]) => entries.map((entry) => entry.record.envelope.id);

/** Bytes that zstd cannot make smaller. */
function noise(bytes: number, seed: number): Buffer {
  const random = seeded(seed * 7919 + 1);
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
}

function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('CRC-32C', () => {
  it('has the values of RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    const all = crc32c(Buffer.from('123456789'));
    expect(crc32c(Buffer.from('6789'), 0, 4, crc32c(Buffer.from('12345')))).toBe(all);
  });
});

type Step =
  | { do: 'append'; area: Area; count: number; bytes: number }
  | { do: 'read'; area: Area; count: number; ack: number }
  | { do: 'maintain' }
  | { do: 'verify' }
  | { do: 'rewind'; area: Area }
  | { do: 'crash'; during: boolean }
  | { do: 'reopen' };

const area = fc.constantFrom(...AREAS);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      area,
      count: fc.integer({ min: 1, max: 6 }),
      bytes: fc.integer({ min: 0, max: 900 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      area,
      count: fc.integer({ min: 1, max: 12 }),
      ack: fc.nat({ max: 100 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'maintain' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'verify' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rewind' as const), area }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('crash' as const), during: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reopen' as const }) },
);

/** Runs steps against the log and against a plain model of what it promises. */
async function follow(steps: readonly Step[], seed: number): Promise<void> {
  const random = seeded(seed);
  const disk = new SimulatedDisk(random);
  const { o, told } = options(disk);
  let clock = 2_000;
  o.now = () => clock;
  let log = await SegmentLog.open(o);
  let next = 0;
  /** By area, in order: durable records, and whether they were acknowledged. */
  const model = Object.fromEntries(AREAS.map((a) => [a, [] as { id: string; acked: boolean }[]])) as {
    [A in Area]: { id: string; acked: boolean }[];
  };
  /** May be there or not: their append did not come back. */
  const doubtful = new Set<string>();
  const check = (entry: Entry, a: Area) => {
    const { id } = entry.record.envelope;
    expect(model[a].some((known) => known.id === id) || doubtful.has(id)).toBe(true);
    expect(Buffer.from(entry.record.payload).equals(Buffer.alloc(entry.record.payload.byteLength, id))).toBe(
      true,
    );
  };
  for (const s of steps) {
    clock += 700;
    switch (s.do) {
      case 'append': {
        const records = Array.from({ length: s.count }, () => record(`r${next++}`, 3, s.bytes, s.area));
        await Promise.all(records.map((r) => log.append(s.area, r)));
        model[s.area].push(...records.map((r) => ({ id: r.envelope.id, acked: false })));
        break;
      }
      case 'read':
        for (let i = 0; i < s.count; i++) {
          const entry = await log.read(s.area);
          if (!entry) break;
          check(entry, s.area);
          if (random() * 100 >= s.ack) continue;
          log.ack(entry.position);
          const known = model[s.area].find(({ id }) => id === entry.record.envelope.id);
          if (known) known.acked = true;
        }
        break;
      case 'maintain':
        await log.maintain();
        break;
      case 'verify':
        await log.verifyOne();
        break;
      case 'rewind':
        await log.rewind(s.area);
        break;
      case 'reopen':
        await log.close();
        log = await SegmentLog.open(o);
        break;
      case 'crash': {
        if (s.during) {
          // Power goes in the middle of an append: its record may be there, whole, or not.
          const id = `r${next++}`;
          doubtful.add(id);
          let left = Math.floor(random() * 6);
          disk.beforeWrite = () => {
            if (left-- <= 0) throw Object.assign(new Error('power'), { code: 'EIO' });
          };
          await log.append('high', record(id, 3, 300, 'high')).then(
            () => model.high.push({ id, acked: false }),
            () => {},
          );
          disk.beforeWrite = undefined;
        }
        disk.crash();
        log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
        break;
      }
    }
  }
  for (const a of AREAS) {
    await log.rewind(a);
    const found = await readAll(log, a);
    for (const entry of found) check(entry, a);
    const foundIds = ids(found);
    const owed = model[a].filter(({ acked }) => !acked).map(({ id }) => id);
    for (const id of owed) expect(foundIds).toContain(id);
    expect(new Set(foundIds).size).toBe(foundIds.length);
    // In order of appending.
    const numbers = foundIds.filter((id) => !doubtful.has(id)).map((id) => Number(id.slice(1)));
    expect(numbers).toEqual([...numbers].sort((x, y) => x - y));
    for (const entry of found) log.ack(entry.position);
  }
  clock += 5_000;
  await log.maintain();
  await log.maintain();
  expect(told.corrupted).toEqual([]);
  for (const a of AREAS)
    expect(log.stats(a)).toMatchObject({ segments: 0, records: 0, items: 0, diskBytes: 0 });
  await log.close();
}

describe('the segment log, against a model, on a disk that forgets', () => {
  it('keeps what it said it kept, in order, whatever happens', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), fc.nat(), follow), {
      numRuns: Number(process.env.NRDOT_RUNS ?? 1_500),
    });
  });
});

describe('the segment log, damaged', () => {
  /** 12 records of one item in four sealed segments and one open, the first three records done with. */
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
    for (let i = 0; i < n; i++) at += 56 + disk.bytes(p).readUInt32LE(at + 4);
    return at;
  };

  /** What is damaged → how many of the 12 records, and of the 9 not done with, must come back; and items known lost. */
  const ROWS: [
    string,
    (disk: SimulatedDisk) => void,
    { owed: number; lost?: number; quarantined: number },
  ][] = [
    ['nothing', () => {}, { owed: 9, quarantined: 0 }],
    ['the magic of a sealed header', (d) => flip(d, path(d, 1), 0), { owed: 9, quarantined: 1 }],
    ['counts in a sealed header', (d) => flip(d, path(d, 1), 57), { owed: 9, quarantined: 1 }],
    ['the hash in a sealed header', (d) => flip(d, path(d, 1), 90), { owed: 9, quarantined: 1 }],
    [
      'a block header',
      (d) => flip(d, path(d, 1), blockOf(d, path(d, 1), 1) + 8),
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

  it('survives any one flipped bit with all other blocks', async () => {
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
});

describe('the segment log, when the disk is full or fails', () => {
  it('refuses, keeps what it has, and takes more when there is room again', async () => {
    const disk = new SimulatedDisk(seeded(1));
    let clock = 2_000;
    const { o, told } = options(disk, { now: () => clock });
    const log = await SegmentLog.open(o);
    await log.append('high', record('a'));
    for (const code of ['ENOSPC', 'EIO', 'EROFS', 'EACCES']) {
      disk.beforeWrite = () => {
        throw Object.assign(new Error(`${code}: told so`), { code });
      };
      await expect(log.append('high', record(code))).rejects.toMatchObject({
        code: code === 'ENOSPC' ? 'disk_full' : 'disk_failing',
      });
      expect(log.fault).toBeDefined();
      disk.beforeWrite = undefined;
      clock += 1_000;
    }
    await log.append('high', record('b'));
    expect(log.fault).toBeUndefined();
    expect(told.faults.length).toBeGreaterThan(0);
    expect(ids(await readAll(log, 'high'))).toEqual(['a', 'b']);
    await log.close();
  });

  it('takes no half-written record for a whole one', async () => {
    const disk = new SimulatedDisk(seeded(2));
    let clock = 2_000;
    const { o } = options(disk, { now: () => clock });
    let log = await SegmentLog.open(o);
    await log.append('high', record('a', 1, 400));
    disk.capacityBytes = 1_300;
    await expect(
      log.append('high', {
        ...record('b'),
        payload: noise(900, 1),
      }),
    ).rejects.toThrow();
    disk.crash();
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    clock += 1_000;
    log = await SegmentLog.open(o);
    await log.append('high', record('c'));
    expect(ids(await readAll(log, 'high'))).toEqual(['a', 'c']);
    await log.close();
  });

  it('is full at its capacity, or drops the oldest of the lowest class, counted', async () => {
    const fill = async (whenFull: 'refuse' | 'drop_oldest') => {
      const { o, told } = options(new SimulatedDisk(seeded(3)), {
        whenFull,
        capacityBytes: 8_000,
        segmentBytes: 600,
      });
      const log = await SegmentLog.open(o);
      let refused = 0;
      for (let i = 0; i < 12; i++) {
        const payload = noise(300, i);
        await log
          .append(i % 2 ? 'normal' : 'critical', { ...record(`r${i}`, 2), payload })
          .catch((error: { code: string }) => {
            expect(error.code).toBe('full');
            refused++;
          });
      }
      return { log, told, refused };
    };
    const refusing = await fill('refuse');
    expect(refusing.refused).toBeGreaterThan(0);
    const dropping = await fill('drop_oldest');
    expect(dropping.refused).toBe(0);
    expect(dropping.told.dropped.every(({ reason, items }) => reason === 'capacity' && items === 2)).toBe(
      true,
    );
    expect(ids(await readAll(dropping.log, 'critical'))).toHaveLength(6);
    expect(dropping.log.stats('normal').items + dropping.told.dropped.length * 2).toBe(12);
  });

  it('drops what is older than its retention, counted, by area', async () => {
    let clock = 2_000;
    const { o, told } = options(new SimulatedDisk(seeded(4)), {
      now: () => clock,
      retentionMs: 10_000,
      rejectedRetentionMs: 50_000,
    });
    const log = await SegmentLog.open(o);
    await log.append('normal', record('a', 5));
    await log.append('rejected', record('b', 7, 50, 'rejected'));
    clock = 20_000;
    await log.maintain();
    await log.maintain();
    expect(told.dropped).toEqual([{ items: 5, reason: 'retention' }]);
    expect(log.stats('rejected').items).toBe(7);
    clock = 100_000;
    await log.maintain();
    await log.maintain();
    expect(told.dropped.at(-1)).toEqual({ items: 7, reason: 'retention' });
    await log.close();
  });
});

describe('the segment log on a real disk', () => {
  let dir = '';
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const real = (more: Partial<SegmentLogOptions> = {}) => {
    dir ||= mkdtempSync(join(tmpdir(), 'nrdot-log-'));
    return options(new SimulatedDisk(seeded(1)), {
      dir,
      fs: new NodeFileSystem(),
      segmentBytes: 200_000,
      ...more,
    });
  };

  it('can be read by a stranger who knows FORMAT.md, and survives a restart', async () => {
    const { o, told } = real();
    let log = await SegmentLog.open(o);
    const records = Array.from({ length: 400 }, (_, i) => record(`r${i}`, i % 5, 2_000 + i));
    for (let i = 0; i < records.length; i += 40) {
      await Promise.all(
        records.slice(i, i + 40).map((r) => {
          r.payload = Buffer.from(Array.from({ length: 1_500 }, (_, k) => Math.floor(Math.sin(i + k) * 128)));
          return log.append('high', r);
        }),
      );
    }
    await log.close();
    const files = readdirSync(join(dir, 'high'))
      .filter((name) => /\.(seg|open)$/.test(name))
      .sort();
    const stranger = files.flatMap((name) => readSegment(readFileSync(join(dir, 'high', name))).records);
    expect(stranger.map(({ envelope }) => envelope.id)).toEqual(records.map((r) => r.envelope.id));
    expect(stranger.every((s, i) => s.payload.equals(Buffer.from(records[i]!.payload)))).toBe(true);
    log = await SegmentLog.open({ ...o, fs: new NodeFileSystem() });
    while (await log.verifyOne());
    expect(ids(await readAll(log, 'high'))).toEqual(records.map((r) => r.envelope.id));
    await log.maintain(); // seals what the first left open
    expect(log.segments().every((segment) => segment.state !== 'open')).toBe(true);
    expect(told.corrupted).toEqual([]);
    await log.close();
  });
});
