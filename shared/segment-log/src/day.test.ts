import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { MIB, options, record, seeded } from '../test/fixture.ts';
import { MortalFileSystem } from '../test/mortal-file-system.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { type Area, type Entry, SegmentLog } from './index.ts';

const ITEMS_PER_HOUR = 100_000;
const HOURS = 24;
const BATCH_ITEMS = 500;
const BATCHES_PER_HOUR = ITEMS_PER_HOUR / BATCH_ITEMS;
/** Before compression. A span of the test generator takes 370; the time that such a day takes is mostly theirs. */
const ITEM_BYTES = Number(process.env.NRDOT_ITEM_BYTES ?? 100);
/** Of these, so many that zstd can't make smaller: ids and times. */
const RANDOM_BYTES = 24;
const HOUR_MS = 3_600_000;
const KEPT: readonly Area[] = ['critical', 'high', 'normal'];
const TIMEOUT_MS = 300_000;
/** The upstream is away for these hours; what was kept by then drains in the others, as fast as it goes. */
const AWAY = (hour: number) => hour % 8 < 5;

let dir = '';
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A body that compresses about as spans do: names that repeat, ids that do not. */
function spans(random: () => number): Buffer {
  const body = Buffer.alloc(BATCH_ITEMS * ITEM_BYTES);
  for (let at = 0; at < body.byteLength; at += ITEM_BYTES) {
    body.write(
      `GET /api/v1/orders/{id} checkout-${Math.floor(random() * 20)} http.status_code=200 `.repeat(5),
      at,
    );
    for (let i = 0; i < RANDOM_BYTES; i++) body[at + i] = Math.floor(random() * 256);
  }
  return body;
}

it(
  'stores a day of 100,000 items an hour through outages, restarts and kills, on a real disk with a simulated clock',
  async () => {
    dir = mkdtempSync(join(tmpdir(), 'nrdot-day-'));
    const random = seeded(24);
    const bodies = Array.from({ length: 8 }, () => spans(random));
    let clock = Date.UTC(2026, 0, 1);
    const { o, told } = options(new SimulatedDisk(random), {
      dir,
      segmentBytes: 4 * MIB,
      capacityBytes: 1024 * MIB,
      retentionMs: 72 * HOUR_MS,
      rejectedRetentionMs: 72 * HOUR_MS,
      now: () => clock,
    });
    let fs = new MortalFileSystem();
    const open = () => {
      fs = new MortalFileSystem();
      return SegmentLog.open({ ...o, fs });
    };
    let log = await open();
    const owed = new Map<string, Area>();
    const last: Record<string, number> = {};
    let n = 0;
    let [items, delivered, twice, diskMost, rssMost, waitingMost] = [0, 0, 0, 0, 0, 0];
    const rssBefore = process.memoryUsage.rss();

    const take = ({ position, record: { envelope } }: Entry) => {
      log.ack(position);
      if (!owed.delete(envelope.id)) {
        twice++;
        return;
      }
      delivered += envelope.items;
      // Oldest first within a class, over every restart.
      const number = Number(envelope.id.slice(1));
      expect(number).toBeGreaterThan(last[position.area] ?? -1);
      last[position.area] = number;
    };
    const drain = async () => {
      for (const area of KEPT)
        for (let entry = await log.read(area); entry; entry = await log.read(area)) take(entry);
    };

    for (let hour = 0; hour < HOURS; hour++) {
      for (let batch = 0; batch < BATCHES_PER_HOUR; batch += 8) {
        clock += (8 * HOUR_MS) / BATCHES_PER_HOUR;
        await Promise.all(
          Array.from({ length: 8 }, (_, i) => {
            const area = KEPT[n % KEPT.length]!;
            const id = `b${n}`;
            owed.set(id, area);
            items += BATCH_ITEMS;
            const made = record(id, BATCH_ITEMS, 0, area, clock);
            return log.append(area, { ...made, payload: bodies[(n++ + i) % bodies.length]! });
          }),
        );
        if (!AWAY(hour)) await drain();
        await log.maintain();
      }
      diskMost = Math.max(diskMost, log.diskBytes);
      rssMost = Math.max(rssMost, process.memoryUsage.rss());
      waitingMost = Math.max(waitingMost, owed.size * BATCH_ITEMS);
      while (await log.verifyOne());
      // Every third hour it is closed, every fifth it is left as a kill leaves it; what is open is taken up again.
      if (hour % 3 === 2) await log.close();
      else if (hour % 5 === 4) await fs.kill();
      else continue;
      log = await open();
    }
    await drain();
    clock += 5_000;
    await log.maintain();
    await log.maintain();
    expect(items).toBe(ITEMS_PER_HOUR * HOURS);
    expect(owed.size).toBe(0);
    expect(delivered).toBe(items);
    expect(told).toMatchObject({ corrupted: [], dropped: [], faults: [] });
    expect(KEPT.reduce((sum, area) => sum + log.stats(area).segments, 0)).toBe(0);
    expect(rssMost - rssBefore).toBeLessThan(150 * MIB);
    console.log(
      `24 h: ${items} items; at most ${waitingMost} of them on disk in ${(diskMost / MIB).toFixed(0)} MiB, RSS +${((rssMost - rssBefore) / MIB).toFixed(0)} MiB; ${twice} read twice`,
    );
    await log.close();
  },
  TIMEOUT_MS,
);
