/** What leaves the disk without being delivered is booked once, wherever power goes. */
import { SegmentLog, type SegmentLogOptions } from '@nrdot/segment-log';
import { describe, expect, it } from 'vitest';
import { incompressible, options, readAll, seeded } from '../../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../../shared/segment-log/test/simulated-disk.ts';
import { type Entry, Ledger } from './ledger.ts';

const RECORDS = 9;
const ITEMS = 2;
const TOTAL = RECORDS * ITEMS;
/** More than any of these makes. */
const WRITES_MAX = 200;
const SEEDS = 4;

/** A log and its ledger on one disk, as the dlq has them, and books as Redis keeps them. */
class Dlq {
  readonly disk: SimulatedDisk;
  readonly booked: Record<string, number> = {};
  readonly #seen = new Set<string>();
  readonly #more: Partial<SegmentLogOptions>;
  now = 2_000;
  log!: SegmentLog;
  ledger!: Ledger;

  constructor(seed: number, more: Partial<SegmentLogOptions> = {}) {
    this.disk = new SimulatedDisk(seeded(seed));
    this.#more = more;
  }

  async open(): Promise<void> {
    const { o } = options(this.disk, { segmentBytes: 900, now: () => this.now, ...this.#more });
    const fs = this.disk.fileSystem();
    await fs.mkdir(o.dir);
    await fs.syncDir('/');
    const ledger = await Ledger.open(o.dir, fs);
    const events = {
      ...o.events,
      writtenOff: (...told: Parameters<Ledger['writtenOff']>) =>
        void ledger.writtenOff(...told).catch(() => {}),
    };
    this.ledger = ledger;
    this.log = await SegmentLog.open({ ...o, fs, events });
  }

  async fill(): Promise<void> {
    for (let i = 0; i < RECORDS; i++) await this.log.append('normal', incompressible(`r${i}`, ITEMS, 300, i));
  }

  /** Power goes after so many writes of some work, or after it, and comes back. @returns whether it was enough for the work */
  async cutAfter(writes: number, work: () => Promise<unknown>): Promise<boolean> {
    this.disk.cutPowerAfter(writes);
    await work().catch(() => {});
    await this.ledger.close();
    const { powered } = this.disk;
    this.disk.crash();
    await this.open();
    return powered;
  }

  readonly book = async ({ id, counts }: Entry) => {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    for (const [field, items] of Object.entries(counts))
      this.booked[field] = (this.booked[field] ?? 0) + items;
  };

  /** Items on the disk, and those in the books. */
  async balance(): Promise<{ waiting: number; dropped: number }> {
    await this.log.maintain();
    await this.ledger.tell(this.book);
    const dropped = Object.values(this.booked).reduce((sum, items) => sum + items, 0);
    return { waiting: this.log.stats('normal').items, dropped };
  }
}

/** Two rounds, so that what was booked by an earlier run is there when power goes again. */
async function everywhere(
  make: (seed: number) => Dlq,
  work: (dlq: Dlq) => Promise<unknown>,
  reason: string,
): Promise<void> {
  let lasted = false;
  for (let cut = 0; !lasted; cut++) {
    expect(cut, 'writes').toBeLessThan(WRITES_MAX);
    lasted = true;
    for (let seed = 0; seed < SEEDS; seed++) {
      const when = `power cut after ${cut} writes, seed ${seed}`;
      const dlq = make(seed * WRITES_MAX + cut);
      await dlq.open();
      await dlq.fill();
      await dlq.log.checkpoint();
      const told = async () => {
        await work(dlq);
        await dlq.ledger.tell(dlq.book);
      };
      if (!(await dlq.cutAfter(cut, told))) lasted = false;
      const { waiting, dropped } = await dlq.balance();
      expect(waiting + dropped, when).toBe(TOTAL);
      await dlq.cutAfter(cut >> 1, told);
      const after = await dlq.balance();
      expect(after.waiting + after.dropped, `the second time, ${when}`).toBe(TOTAL);
      await work(dlq);
      expect(await dlq.balance(), when).toEqual({ waiting: 0, dropped: TOTAL });
      expect(dlq.booked).toEqual({ [`dropped:${reason}`]: TOTAL });
      await dlq.log.close();
    }
  }
}

describe('a write-off is accounted for once, wherever power fails', () => {
  it('by a purge', () =>
    everywhere(
      (seed) => new Dlq(seed),
      (dlq) => dlq.log.purge('normal'),
      'purged',
    ));

  it('by retention', () =>
    everywhere(
      (seed) => new Dlq(seed, { retentionMs: 10_000 }),
      async (dlq) => {
        // Retention counts the time that the log is open, so that each try has to live long enough.
        dlq.now += 1_000_000;
        await dlq.log.maintain();
      },
      'retention',
    ));

  it('after files have vanished', () =>
    everywhere(
      (seed) => new Dlq(seed),
      async (dlq) => {
        for (const path of dlq.disk.paths()) if (/\.(seg|open)$/.test(path)) dlq.disk.remove(path);
        await readAll(dlq.log, 'normal');
        await dlq.log.maintain();
      },
      'corrupted',
    ));
});

it('with a damaged checkpoint, which resets its count and that of the ledger', async () => {
  const dlq = new Dlq(1);
  await dlq.open();
  await dlq.fill();
  await dlq.log.purge('normal');
  expect(await dlq.balance()).toEqual({ waiting: 0, dropped: TOTAL });
  await dlq.log.close();
  await dlq.ledger.close();
  const path = '/dlq/normal/checkpoint';
  const bytes = Buffer.from(dlq.disk.bytes(path));
  bytes[20]! ^= 1;
  dlq.disk.replace(path, bytes);
  await dlq.open();
  expect(await dlq.balance()).toEqual({ waiting: 0, dropped: TOTAL });
  await dlq.fill();
  await dlq.log.purge('normal');
  expect(await dlq.balance()).toEqual({ waiting: 0, dropped: 2 * TOTAL });
});
