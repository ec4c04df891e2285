/** One simulated run: requests, steps in an order of choice, faults between any two of them, an end, and a judgement. */
import { type Batch, CLASSES, type InProcess } from '@nrdot/queue';
import { AREAS } from '@nrdot/segment-log';
import type { Outcome } from '../../services/exporter/src/outcome.ts';
import { beginChance } from './chance.ts';
import { Choices } from './choices.ts';
import { Merging, pointsIn, type Reachable } from './merging.ts';
import { Broken, books, checkDepth, heldToSpill, leftovers, Oracle, saysEmpty } from './oracle.ts';
import {
  type Dlq,
  newInProcess,
  type Receiver,
  startDlq,
  startExporter,
  startReceiver,
  startScheduler,
} from './parties.ts';
import { namesIn } from './payload.ts';
import { settled } from './virtual-time.ts';
import { type Life, World } from './world.ts';

export interface Result {
  /** Undefined when all was well. */
  broken: string | undefined;
  choices: number[];
  story: string[];
  steps: number;
  faults: number;
}

/** A dlq that looks every 50 ms takes up to a minute to find that Redis has forgotten what it was given. */
const STEPS_MAX = 8_000;
const FAULT_SHARE = 0.06;
const LOCK_AND_MORE_MS = 11_000;
/** Redis is looked at as a whole after so many executions, and at the end. */
const LOOK_EVERY = 5;
const FORGOTTEN_MS = 35_000;

/** What the clients send: spans that have names, or metrics that are merged. */
export type Load = 'spans' | 'merging';

export interface RunOptions {
  load?: Load;
  /** Whether its story is kept. */
  telling?: boolean;
  /** Whether batches that nothing waits before go to exporters of other processes without the scheduler. */
  pastScheduler?: boolean;
  /** Only receivers are killed, and time passes in which they are forgotten: for what is seldom seen among all the other faults. */
  onlyReceiversDie?: boolean;
}

export async function runSchedule(choices: Choices, options: RunOptions = {}): Promise<Result> {
  beginChance();
  const run = new Schedule(choices, options);
  let broken: string | undefined;
  try {
    await run.play();
  } catch (error) {
    broken = error instanceof Broken ? error.message : `a fault of the program: ${(error as Error).stack}`;
  }
  const { story } = run.world;
  return { broken, choices: choices.taken, story, steps: run.steps, faults: run.faults };
}

type Service = 'receiver' | 'receiver 2' | 'dlq' | `scheduler ${1 | 2}` | `exporter ${1 | 2}`;
/** What ends by itself: a service, or all of them in one process. */
type Party = Service | 'pipeline';

class Schedule {
  readonly world: World;
  readonly oracle = new Oracle();
  readonly #choices: Choices;
  readonly #lives = new Map<Party, Life>();
  readonly #receivers = new Map<Service, Receiver>();
  readonly #merging: Merging | undefined;
  #dlq: Dlq | undefined;
  #misbehaviours = 0;
  #nextItem = 0;
  readonly #withDlq: boolean;
  readonly #onlyReceiversDie: boolean;
  /** One process for all services, which share wake signals and the in-process hand-off: what `nrdot up` starts. */
  #isWhole = false;
  #executions = 0;
  #stagesAreSure = true;
  steps = 0;
  faults = 0;

  constructor(
    choices: Choices,
    { load = 'spans', telling = false, pastScheduler = false, onlyReceiversDie = false }: RunOptions,
  ) {
    this.#choices = choices;
    this.#onlyReceiversDie = onlyReceiversDie;
    const isSloppy = choices.pick(8) === 7 && load === 'spans';
    const durability = isSloppy ? 'everysec' : 'always';
    this.world = new World({ choices, durability, telling, pastScheduler });
    this.world.onFsync = () => {
      for (const item of this.oracle.acknowledged) this.oracle.owed.add(item);
    };
    this.world.onRedisCrash = () => {
      // With `always` nothing was acknowledged that could be lost.
      for (const item of this.oracle.acknowledged)
        if (!this.oracle.owed.has(item)) this.oracle.acknowledged.delete(item);
      // Who holds a job whose move was forgotten settles it where it is not.
      if (this.world.durability === 'everysec') this.#stagesAreSure = false;
    };
    this.world.onExecuted = () => {
      this.#executions++;
    };
    this.world.faultsLeft = choices.pick(6);
    const withDlq = choices.pick(5) === 4;
    // What spills has to come back before totals can be judged.
    this.#withDlq = withDlq || load === 'merging';
    if (load === 'merging') this.#merging = new Merging(this.world, choices, () => this.#reachable());
  }

  async play(): Promise<void> {
    const { world } = this;
    const parties: Party[] = ['receiver', 'scheduler 1', 'exporter 1'];
    if (this.#withDlq) parties.push('dlq');
    const form = this.#choices.pick(4);
    this.#isWhole = form === 3;
    if (form === 2) parties.push('scheduler 2');
    if (this.#choices.pick(2) === 1) parties.push('exporter 2');
    if (this.#merging) parties.push('receiver 2');
    if (this.#isWhole) parties.splice(0, parties.length, 'pipeline');
    for (const party of parties) await this.#start(party);
    if (this.#merging) this.#merging.begin();
    else for (let n = 1 + this.#choices.pick(4); n > 0; n--) this.#plan();
    while (true) {
      if (++this.steps > STEPS_MAX) throw new Broken(`it does not come to rest: ${this.#state()}`);
      if (world.faultsLeft > 0 && (await this.#mayFail())) continue;
      await this.#purgeIfWanted();
      const ready = world.ready();
      if (ready.length > 0) {
        await world.perform(ready[this.#choices.pick(ready.length, 0.6)]!);
      } else {
        if (await this.#atRest()) break;
        const timer = world.time.next();
        if (!timer) throw new Broken('nobody has anything to do');
        await world.as(undefined, () => world.time.fire(timer));
      }
      if (world.failure) throw world.failure;
      if (this.#executions >= LOOK_EVERY) {
        this.#executions = 0;
        checkDepth(world.redis, this.#stagesAreSure);
      }
    }
    await this.#judge();
  }

  async #start(party: Party): Promise<void> {
    const { world } = this;
    const life = world.born(party);
    this.#lives.set(party, life);
    await world.as(life, () => {
      if (party !== 'pipeline') return this.#startService(party, life);
      const inProcess = newInProcess();
      if (this.#withDlq) this.#startService('dlq', life, inProcess);
      for (const service of ['receiver', 'scheduler 1', 'exporter 1'] as const)
        this.#startService(service, life, inProcess);
    });
  }

  #startService(service: Service, life: Life, inProcess?: InProcess): void {
    const { world } = this;
    if (service === 'receiver' || service === 'receiver 2') {
      const number = service === 'receiver' ? 1 : 2;
      const storeDirectly = (batch: Batch) => this.#storeDirectly(life, batch);
      const limits = this.#merging && { number, mergeIntervalMs: this.#merging.mergeIntervalMs };
      this.#receivers.set(service, startReceiver(world, life, storeDirectly, inProcess, limits));
    } else if (service.startsWith('scheduler')) startScheduler(world, life, inProcess);
    else if (service.startsWith('exporter'))
      startExporter(world, life, (by, signal, body) => this.#upstream(by, signal, body), inProcess);
    else {
      this.#dlq = undefined;
      startDlq(world, life, (items) => this.#toDisk(items), inProcess).then(
        (dlq) => {
          if (life.alive) this.#dlq = dlq;
        },
        (error: Error) => {
          if (life.alive) world.fail(error);
        },
      );
    }
  }

  /** Who lives where a service is. */
  #lifeOf(service: Service): Life | undefined {
    return this.#lives.get(this.#isWhole ? 'pipeline' : service);
  }

  #reachable(): Reachable[] {
    return [...this.#receivers].map(([name, receiver]) => ({ name, receiver, life: this.#lifeOf(name)! }));
  }

  /** A client's request; it is not sent again. */
  #plan(): void {
    const { world, oracle } = this;
    const parts = Array.from({ length: 1 + this.#choices.pick(2, 0.8) }, () => ({
      class: CLASSES[this.#choices.pick(3)]!,
      items: Array.from({ length: 1 + this.#choices.pick(3) }, () => `i${this.#nextItem++}`),
    }));
    if (parts.length === 2 && parts[0]!.class === parts[1]!.class) parts.pop();
    const items = parts.flatMap((part) => part.items);
    world.operations.push({
      life: undefined,
      say: `a client sends ${parts.map((part) => `${part.items.join(' ')} (${part.class})`).join(' and ')}`,
      run: () => {
        const life = this.#lifeOf('receiver')!;
        if (!life.alive) return;
        for (const item of items) oracle.sent.add(item);
        world.time.owner = life;
        this.#receivers
          .get('receiver')!
          .take(parts)
          .then(
            () => {
              world.say(`${items.join(' ')} acknowledged`);
              for (const item of items) {
                oracle.acknowledged.add(item);
                if (world.durability === 'always') oracle.owed.add(item);
              }
            },
            (error: Error) => world.say(`${items.join(' ')} refused: ${error.message}`),
          );
      },
    });
  }

  /** The hop from receiver to dlq. */
  async #storeDirectly(receiver: Life, batch: Batch): Promise<void> {
    const { world } = this;
    if (this.#withDlq) await world.step(receiver, 'the receiver turns to the dlq');
    const [life, dlq] = [this.#lifeOf('dlq'), this.#dlq];
    if (!life?.alive || !dlq) throw new Error('the dlq cannot be reached');
    return new Promise((resolve, reject) => {
      const answer = (say: string, run: () => void) => {
        if (receiver.alive) world.operations.push({ life: receiver, say, run });
      };
      const broken = {
        life,
        reject: () => answer('the dlq is gone', () => reject(new Error('socket hang up'))),
      };
      this.#directly.add(broken);
      world.operations.push({
        life,
        say: 'the dlq is handed a batch by the receiver',
        run: () => {
          dlq.takeDirectly(batch).then(
            () => {
              this.#directly.delete(broken);
              answer('the dlq says that it has it', resolve);
            },
            (error: Error) => {
              this.#directly.delete(broken);
              answer('the dlq refuses it', () => reject(error));
            },
          );
        },
      });
    });
  }

  /** What has ever been on its way to the disk; while it is purged, all of it may be gone. */
  readonly #onDisk = new Set<string>();
  #isPurgeWanted = false;
  #isPurging = false;
  #dlqKills = 0;

  #toDisk(items: string[]): void {
    for (const item of items) {
      this.#onDisk.add(item);
      if (this.#isPurging) this.oracle.purged.add(item);
    }
  }

  /** Somebody purges when there is something on the disk; the dlq may be killed in the middle of it. */
  async #purgeIfWanted(): Promise<void> {
    const { world } = this;
    // What an earlier run of the dlq had put into Redis is unknown to this one: people are told to wait.
    if (!this.#isPurgeWanted || !this.#dlq || this.#dlqKills > 0 || this.#isPurging) return;
    const { segments } = this.#dlq;
    if (!AREAS.some((area) => segments.stats(area).records > 0)) return;
    world.say('somebody purges what is on the disk');
    this.#isPurgeWanted = false;
    this.#isPurging = true;
    for (const item of this.#onDisk) this.oracle.purged.add(item);
    const over = () => {
      this.#isPurging = false;
    };
    await world.as(this.#lifeOf('dlq'), () => void this.#dlq?.purge().then(over, over));
    if (this.#choices.pick(2) === 1) this.#doomDlq(this.#choices.pick(20));
  }

  /** Ends the dlq in the middle of what it is doing. */
  #doomDlq(stepsLeft: number): void {
    const { world } = this;
    world.operations.push({
      life: undefined,
      say: '',
      run: () => {
        if (stepsLeft > 0) return this.#doomDlq(stepsLeft - 1);
        const party = this.#isWhole ? 'pipeline' : 'dlq';
        const life = this.#lives.get(party);
        if (life?.alive) void this.#kill(party, life, this.#choices.pick(2) === 1);
      },
    });
  }

  readonly #directly = new Set<{ life: Life; reject(): void }>();

  #upstream(life: Life, signal: string, body: Buffer): Promise<Outcome> {
    const { world } = this;
    const items = namesIn(body);
    return new Promise((resolve) => {
      // The exporter may be gone when the request arrives; an answer then goes nowhere.
      world.operations.push({
        life: undefined,
        say: `${life.name}'s request arrives: ${items.join(' ')}`,
        run: () => {
          const answers = this.#merging ? PASSING_ANSWERS : ANSWERS;
          const how = this.#misbehaviours > 0 ? answers[this.#choices.pick(answers.length)]! : 'taken';
          if (how !== 'taken') this.#misbehaviours--;
          const outcome = this.#answer(how, items);
          if (signal === 'metrics') world.say(() => `what arrives:${pointsIn(body)}`);
          if (signal === 'metrics' && how.startsWith('taken')) this.#merging?.received.take(body);
          if (how !== 'taken') world.say(`the upstream: ${how}`);
          if (life.alive)
            world.operations.push({ life, say: `${life.name} gets its answer`, run: () => resolve(outcome) });
        },
      });
    });
  }

  #answer(how: (typeof ANSWERS)[number], items: string[]): Outcome {
    const { oracle, world } = this;
    switch (how) {
      case 'taken':
        oracle.arrived(items);
        return { kind: 'delivered', refusedItems: 0, message: '' };
      case 'taken, and the answer gets lost':
        world.excuses++;
        oracle.arrived(items);
        return { kind: 'retry', reason: 'connection', message: 'reset' };
      case 'all but one taken':
        oracle.arrived(items.slice(1));
        oracle.refused.add(items[0]!);
        return { kind: 'delivered', refusedItems: 1, message: 'no' };
      case '503':
        return { kind: 'retry', reason: 'unavailable', status: 503, message: '503' };
      case '429':
        return { kind: 'retry', reason: 'throttled', status: 429, retryAfterMs: 200, message: '429' };
      case '401':
        return { kind: 'hold', reason: 'auth', status: 401, message: '401' };
      case '400':
        return { kind: 'rejected', reason: 'status_400', status: 400, message: '400' };
      case '413':
        return { kind: 'too-large', status: 413, message: '413' };
    }
  }

  /** @returns whether something broke instead of a step */
  async #mayFail(): Promise<boolean> {
    const choices = this.#choices;
    const kind = choices.pick(FAULTS.length + 1, 1 - FAULT_SHARE);
    if (kind === 0) return false;
    const { world } = this;
    const fault = this.#onlyReceiversDie ? (['kill', 'time'] as const)[kind % 2]! : FAULTS[kind - 1]!;
    world.faultsLeft--;
    this.faults++;
    switch (fault) {
      case 'kill':
      case 'power': {
        const alive = [...this.#lives].filter(
          ([party, life]) => life.alive && (!this.#onlyReceiversDie || /receiver|pipeline/.test(party)),
        );
        const named =
          fault === 'power'
            ? alive.find(([party]) => party === 'dlq' || party === 'pipeline')
            : alive[choices.pick(alive.length)];
        if (named) await this.#kill(...named, fault === 'power');
        // Redis may be on the machine of the whole pipeline.
        if (named?.[0] === 'pipeline' && fault === 'power' && world.redisUp && choices.pick(2) === 1)
          await world.crashRedis();
        break;
      }
      case 'redis':
        if (!world.redisUp) break;
        world.excuses++;
        if (choices.pick(4) === 3) world.redis.outOfMemory = false;
        await world.crashRedis();
        break;
      case 'cut': {
        const open = [...this.#lives.values()]
          .filter(({ alive }) => alive)
          .flatMap((life) =>
            life.connections
              .filter(({ unanswered }) => unanswered)
              .map((connection) => [life, connection] as const),
          );
        const chosen = open[choices.pick(open.length)];
        if (!chosen) break;
        const [life, connection] = chosen;
        world.excuses++;
        world.say(
          `the connection from ${life.name} to Redis is cut${connection.answered ? ', and its answers are lost' : ''}`,
        );
        await world.as(life, () => world.cut(connection));
        break;
      }
      case 'upstream':
        this.#misbehaviours += 1 + choices.pick(4);
        break;
      case 'time': {
        const lengths = this.#onlyReceiversDie ? [FORGOTTEN_MS] : [50, 500, LOCK_AND_MORE_MS, FORGOTTEN_MS];
        const ms = lengths[choices.pick(lengths.length)]!;
        world.excuses++;
        world.say(`${ms} ms pass in which nobody gets anything done`);
        world.time.nowMs += ms;
        this.#restedAt = undefined; // nobody had a turn in them
        break;
      }
      case 'memory':
        world.say('Redis is out of memory');
        world.redis.outOfMemory = true;
        world.operations.push({
          life: undefined,
          say: 'Redis has memory again',
          run: () => {
            world.redis.outOfMemory = false;
          },
        });
        break;
      case 'disk':
        world.say("the dlq's disk is full");
        world.disk.capacityBytes = 0;
        world.operations.push({
          life: undefined,
          say: "the dlq's disk has room again",
          run: () => {
            world.disk.capacityBytes = Number.POSITIVE_INFINITY;
          },
        });
        break;
      case 'purge':
        this.#isPurgeWanted = !this.#merging;
        break;
      case 'order':
        world.say('somebody has what was rejected replayed');
        await world.as(this.#lifeOf('dlq'), () => void this.#dlq?.replayRejected());
        break;
    }
    return true;
  }

  async #kill(party: Party, life: Life, power: boolean): Promise<void> {
    const { world } = this;
    world.excuses++;
    world.say(power ? `the ${party}'s machine loses power` : `${party} is killed`);
    world.kill(life);
    this.#merging?.ended(life);
    if (party === 'dlq' || party === 'pipeline') {
      this.#dlq = undefined;
      this.#dlqKills++;
      this.#isPurging = false;
      if (power) world.disk.crash();
      for (const each of [...this.#directly]) {
        if (each.life === life) each.reject();
        this.#directly.delete(each);
      }
    }
    await settled();
    world.operations.push({
      life: undefined,
      say: `${party} starts again`,
      run: () => void this.#start(party),
    });
  }

  async #atRest(): Promise<boolean> {
    const { redis, durability, time } = this.world;
    if (this.#merging?.isDone === false) return false;
    if (!saysEmpty(redis, !this.#withDlq)) return false;
    if (durability === 'everysec' && redis.unsynced > 0) return false;
    if (leftovers(redis).length > 0) return false;
    if (!this.#withDlq) return true;
    if (!this.#dlq || CLASSES.some((c) => this.#dlq!.segments.stats(c).records > 0)) return false;
    const { difference, on_disk } = books(redis);
    return on_disk === 0 && (difference === 0 || time.nowMs > this.#patience());
  }

  #state(): string {
    const { redis } = this.world;
    const disk =
      this.#dlq && Object.fromEntries(CLASSES.map((c) => [c, this.#dlq!.segments.stats(c).records]));
    return JSON.stringify({ ...books(redis), disk, left: leftovers(redis) });
  }

  #restedAt: number | undefined;
  /** The ledger's entries are told with the next turns of the dlq: give it some. */
  #patience(): number {
    this.#restedAt ??= this.world.time.nowMs;
    return this.#restedAt + 5_000;
  }

  async #judge(): Promise<void> {
    const { world, oracle } = this;
    if (this.#dlq) {
      for await (const { record } of this.#dlq.segments.scan('rejected')) {
        for (const item of namesIn(Buffer.from(record.payload))) oracle.refused.add(item);
      }
    } else for (const item of heldToSpill(world.redis)) oracle.refused.add(item);
    const missing = oracle.missing();
    if (missing.length > 0) throw new Broken(`acknowledged and lost: ${missing.join(' ')}`);
    oracle.checkDuplicates(world.excuses);
    const totals = this.#merging?.complaints() ?? [];
    if (totals.length > 0) throw new Broken(`totals are wrong: ${totals.join('; ')}`);
    checkDepth(world.redis, this.#stagesAreSure);
    const { difference, ...rest } = books(world.redis);
    if (difference !== 0 && world.durability === 'always')
      throw new Broken(`the books do not balance: ${JSON.stringify({ ...rest, difference })}`);
  }
}

const ANSWERS = [
  'taken',
  'taken, and the answer gets lost',
  '503',
  '429',
  'all but one taken',
  '400',
  '413',
  '401',
] as const;
/** Those after which it is sent again. */
const PASSING_ANSWERS = ANSWERS.slice(0, 4);
const FAULTS = [
  'kill',
  'redis',
  'cut',
  'upstream',
  'time',
  'power',
  'memory',
  'disk',
  'order',
  'kill',
  'upstream',
  'purge',
] as const;

export { Choices };
