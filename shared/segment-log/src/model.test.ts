import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { options, readAll, record, seeded, type Told } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';
import { type Entry, SegmentLog, type SegmentLogOptions } from './index.ts';
import { AREAS, type Area } from './record.ts';

/** What one caller does; callers of one step run together. */
type Act =
  | { do: 'append'; area: Area; count: number; bytes: number }
  | { do: 'read'; area: Area; count: number; ack: number }
  | { do: 'maintain' }
  | { do: 'verify' }
  | { do: 'checkpoint' }
  | { do: 'rewind'; area: Area }
  | { do: 'seal'; area: Area };

type Step =
  /** `cut`: power goes at that many writes from the start of it. */
  | { do: 'together'; acts: Act[]; cut: number | undefined }
  | { do: 'crash' }
  | { do: 'reopen' }
  /** A file is changed behind the log's back, which is running. */
  | { do: 'corrupt'; file: number; how: 'flip' | 'zeros' | 'cut' | 'remove'; at: number };

const ITEMS = 3;
const area = fc.constantFrom(...AREAS);
const act: fc.Arbitrary<Act> = fc.oneof(
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
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      area,
      count: fc.integer({ min: 1, max: 12 }),
      ack: fc.nat({ max: 100 }),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'maintain' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'verify' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'checkpoint' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rewind' as const), area }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('seal' as const), area }) },
);
const wholesome: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('together' as const),
      acts: fc.array(act, { minLength: 1, maxLength: 4 }),
      cut: fc.option(fc.nat({ max: 25 }), { nil: undefined, freq: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'crash' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'reopen' as const }) },
);
const corrupting: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('corrupt' as const),
  file: fc.nat({ max: 20 }),
  how: fc.constantFrom('flip' as const, 'zeros' as const, 'cut' as const, 'remove' as const),
  at: fc.nat({ max: 10_000 }),
});

interface Known {
  id: string;
  acked: boolean;
}

/** The log, and beside it a plain list of what it promised. */
class Follower {
  readonly #disk: SimulatedDisk;
  readonly #random: () => number;
  readonly #o: SegmentLogOptions;
  readonly told: Told;
  #log!: SegmentLog;
  #clock = 2_000;
  #next = 0;
  /** By area: what is durable, and whether it was acknowledged. */
  readonly #model = Object.fromEntries(AREAS.map((a) => [a, []])) as unknown as { [A in Area]: Known[] };
  /** May be there or not: their append did not come back. */
  readonly #doubtful = new Set<string>();
  /** Were in a file that was damaged. */
  readonly #excused = new Set<string>();
  /** Files that hold what can't be read. */
  #damagedFiles = 0;

  constructor(seed: number) {
    this.#random = seeded(seed);
    this.#disk = new SimulatedDisk(this.#random);
    const { o, told } = options(this.#disk, { now: () => this.#clock });
    const { corrupted } = o.events;
    // What a program says whose power is gone, nobody hears.
    o.events.corrupted = (what) => this.#disk.powered && corrupted(what);
    this.#o = o;
    this.told = told;
  }

  async open(): Promise<void> {
    this.#log = await SegmentLog.open({ ...this.#o, fs: this.#disk.fileSystem() });
  }

  async step(step: Step): Promise<void> {
    this.#clock += 700;
    switch (step.do) {
      case 'together': {
        const { cut } = step;
        if (cut !== undefined) this.#disk.cutPowerAfter(cut);
        const done = await Promise.allSettled(step.acts.map((each) => this.#act(each)));
        if (cut !== undefined) {
          this.#disk.crash();
          await this.open();
        } else for (const result of done) if (result.status === 'rejected') throw result.reason;
        break;
      }
      case 'crash':
        this.#disk.crash();
        await this.open();
        break;
      case 'reopen':
        await this.#log.close();
        await this.open();
        break;
      case 'corrupt':
        await this.#corrupt(step);
        break;
    }
  }

  async #act(act: Act): Promise<void> {
    const log = this.#log;
    switch (act.do) {
      case 'append': {
        const records = Array.from({ length: act.count }, () =>
          record(`r${this.#next++}`, ITEMS, act.bytes, act.area, this.#clock - 500),
        );
        for (const { envelope } of records) this.#doubtful.add(envelope.id);
        await Promise.all(
          records.map(async (r) => {
            await log.append(act.area, r);
            this.#doubtful.delete(r.envelope.id);
            this.#model[act.area].push({ id: r.envelope.id, acked: false });
          }),
        );
        break;
      }
      case 'read':
        for (let i = 0; i < act.count; i++) {
          const entry = await log.read(act.area);
          if (!entry) break;
          this.#check(entry, act.area);
          if (this.#random() * 100 >= act.ack) continue;
          log.ack(entry.position);
          const { id } = entry.record.envelope;
          const known = this.#model[act.area].find((each) => each.id === id);
          if (known) known.acked = true;
        }
        break;
      case 'maintain':
        await log.maintain();
        break;
      case 'verify':
        await log.verifyOne();
        break;
      case 'checkpoint':
        await log.checkpoint();
        break;
      case 'rewind':
        await log.rewind(act.area);
        break;
      case 'seal':
        await log.seal(act.area);
        break;
    }
  }

  /** Whatever is given out was put in, by the same name, byte for byte. */
  #check(entry: Entry, a: Area): void {
    const { envelope, payload } = entry.record;
    const { id } = envelope;
    const known = this.#model[a].some((each) => each.id === id) || this.#doubtful.has(id);
    if (!known) expect.fail(`${id} was never put into ${a}`);
    expect(Buffer.from(payload).equals(Buffer.alloc(payload.byteLength, id))).toBe(true);
    expect(entry.position).toMatchObject({ area: a, items: ITEMS });
  }

  async #corrupt({ file, how, at }: Step & { do: 'corrupt' }): Promise<void> {
    const disk = this.#disk;
    const files = disk.paths().filter((path) => /\/\d{16}\.(seg|open)$/.test(path));
    const path = files[file % Math.max(1, files.length)];
    if (!path) return;
    const [, , a, name] = path.split('/') as [string, string, Area, string];
    for await (const entry of this.#log.scan(a)) {
      if (entry.position.sequence === Number.parseInt(name, 10)) this.#excused.add(entry.record.envelope.id);
    }
    const bytes = Buffer.from(disk.bytes(path));
    if (bytes.byteLength === 0) return;
    const place = at % bytes.byteLength;
    this.#damagedFiles++;
    if (how === 'remove') disk.remove(path);
    else if (how === 'cut') disk.replace(path, bytes.subarray(0, place));
    else {
      if (how === 'flip') bytes[place]! ^= 1 << (at % 8);
      else bytes.fill(0, place, Math.min(bytes.byteLength, place + 600));
      disk.replace(path, bytes);
    }
    await this.#log.close();
    await this.open();
  }

  /** Everything owed comes, once and in order; and when it is acknowledged nothing is left but what was damaged. */
  async finish(): Promise<void> {
    const log = this.#log;
    for (const a of AREAS) {
      await log.rewind(a);
      const found = await readAll(log, a);
      for (const entry of found) this.#check(entry, a);
      const foundIds = found.map((entry) => entry.record.envelope.id);
      for (const { id, acked } of this.#model[a]) {
        if (!acked && !this.#excused.has(id)) expect(foundIds).toContain(id);
      }
      expect(new Set(foundIds).size).toBe(foundIds.length);
      const numbers = foundIds.map((id) => Number(id.slice(1)));
      expect(numbers).toEqual([...numbers].sort((x, y) => x - y));
      for (const entry of found) log.ack(entry.position);
    }
    this.#clock += 5_000;
    await log.maintain();
    await log.maintain();
    if (this.#damagedFiles === 0) expect(this.told.corrupted).toEqual([]);
    for (const a of AREAS) {
      expect(log.stats(a)).toMatchObject({ segments: 0, records: 0, items: 0, diskBytes: 0 });
    }
    await log.close();
  }
}

async function follow(steps: readonly Step[], seed: number): Promise<void> {
  const follower = new Follower(seed);
  await follower.open();
  for (const step of steps) await follower.step(step);
  await follower.finish();
}

const RUNS = Number(process.env.NRDOT_RUNS ?? 2_000);
/** Thousands of cases on a machine that does something else too. */
const TIMEOUT_MS = 300_000;

describe('the segment log, against a model, on a disk that forgets', () => {
  it(
    'keeps everything acknowledged, in order, under any concurrency and wherever power fails',
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(wholesome, { minLength: 1, maxLength: 20 }), fc.nat(), follow),
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );

  it(
    'loses only data in the damaged file, and never returns data that was not written',
    async () => {
      const step = fc.oneof({ weight: 5, arbitrary: wholesome }, { weight: 1, arbitrary: corrupting });
      await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 20 }), fc.nat(), follow), {
        numRuns: Math.ceil(RUNS / 2),
      });
    },
    TIMEOUT_MS,
  );
});
