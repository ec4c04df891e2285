import type { Entry, SegmentLog, SegmentLogOptions, WriteOffs } from '../src/index.ts';
import type { Area, Record } from '../src/record.ts';
import type { SimulatedDisk } from './simulated-disk.ts';

export const MIB = 1024 * 1024;

export function record(id: string, items = 1, bytes = 50, area: Area = 'normal', receivedAt = 1_000): Record {
  return {
    envelope: { id, signal: 'traces', class: area, items, encoding: 'gzip', receivedAt, reason: 'fill' },
    payload: Buffer.alloc(bytes, id),
  };
}

/** One whose payload zstd cannot make smaller. */
export function incompressible(
  id: string,
  items: number,
  bytes: number,
  seed: number,
  area: Area = 'normal',
): Record {
  return { ...record(id, items, 0, area), payload: noise(bytes, seed) };
}

export interface Told {
  corrupted: { reason: string; items: number; records: number; file: string }[];
  unreadable: { file: string; reason: string }[];
  dropped: { items: number; reason: string }[];
  /** As last told, by area. */
  writtenOff: { [A in Area]?: WriteOffs };
  faults: string[];
  ballast: string[];
}

/** Options for a log on a disk, and what it told its owner. */
export function options(
  disk: SimulatedDisk,
  more: Partial<SegmentLogOptions> = {},
): { o: SegmentLogOptions; told: Told } {
  const told: Told = { corrupted: [], unreadable: [], dropped: [], writtenOff: {}, faults: [], ballast: [] };
  const o: SegmentLogOptions = {
    dir: '/dlq',
    version: '0.0.1',
    fs: disk.fileSystem(),
    segmentBytes: 2_000,
    capacityBytes: 100 * MIB,
    reserveBytes: 0,
    whenFull: 'refuse',
    retentionMs: 1e9,
    rejectedRetentionMs: 1e9,
    verifyBytesPerSecond: 1e9,
    events: {
      corrupted: ({ reason, items, records, file }) => told.corrupted.push({ reason, items, records, file }),
      unreadable: ({ file, reason }) => told.unreadable.push({ file, reason }),
      dropped: (_area, items, reason) => told.dropped.push({ items, reason }),
      writtenOff: (area, totals) => {
        told.writtenOff[area] = totals;
      },
      ballast: (state) => told.ballast.push(state),
      fault: (error) => told.faults.push(error.code),
    },
    now: () => 2_000,
    ...more,
  };
  return { o, told };
}

export async function readAll(log: SegmentLog, area: Area): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let entry = await log.read(area); entry; entry = await log.read(area)) entries.push(entry);
  return entries;
}

export function ids(entries: readonly Entry[]): string[] {
  return entries.map((entry) => entry.record.envelope.id);
}

/** Bytes that zstd cannot make smaller. */
export function noise(bytes: number, seed: number): Buffer {
  const random = seeded(seed * 7919 + 1);
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
}

export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
