/**
 * What the parties live in: time, Redis, the network, a disk, the upstream. Every step that waits for something outside
 * is an operation here, and the run decides which goes next, and whether something breaks before it.
 */

import type { FileSystem } from '@nrdot/segment-log';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';
import type { Choices } from './choices.ts';
import { ModelConnection } from './connection.ts';
import { RedisModel } from './redis.ts';
import { settled, VirtualTime } from './virtual-time.ts';

/** One life of a process: a kill ends it, and with it all that it waits for. */
export interface Life {
  name: string;
  alive: boolean;
  connections: ModelConnection[];
  /** Sleeps that Redis can end: by its key, which has a member when there is something to do. */
  sleeps: { key: string; wake(): void }[];
}

export interface Operation {
  /** Ends with this life; undefined: the network's or the machine's own. */
  life: Life | undefined;
  say: string;
  run(): void;
}

export interface WorldOptions {
  choices: Choices;
  durability: 'always' | 'everysec';
  /** Whether to keep a story. */
  telling: boolean;
  pastScheduler: boolean;
}

export class World {
  readonly time = new VirtualTime();
  readonly redis = new RedisModel(() => this.time.nowMs);
  readonly disk: SimulatedDisk;
  readonly choices: Choices;
  readonly operations: Operation[] = [];
  readonly story: string[] = [];
  readonly lives: Life[] = [];
  readonly durability: 'always' | 'everysec';
  /** Whether stores of separate services may let batches go past the scheduler. */
  readonly pastScheduler: boolean;
  readonly #telling: boolean;
  readonly #connections = new Set<ModelConnection>();
  /** Connections that have an operation to be executed by Redis. */
  readonly #queued = new Set<ModelConnection>();
  redisUp = true;
  /** Faults that may still be. */
  faultsLeft = 0;
  /** What went wrong outside of the run's own code. */
  failure: Error | undefined;
  /** Things happened that allow so many second deliveries of an item. */
  excuses = 0;
  /** Called when what Redis has executed is on its disk. */
  onFsync: () => void = () => {};
  /** Called when Redis has crashed and its memory is what its disk says. */
  onRedisCrash: () => void = () => {};
  /** Called after Redis has executed something. */
  onExecuted: () => void = () => {};

  constructor({ choices, durability, telling, pastScheduler }: WorldOptions) {
    this.choices = choices;
    this.durability = durability;
    this.pastScheduler = pastScheduler;
    this.#telling = telling;
    this.disk = new SimulatedDisk(() => choices.pick(2) / 2);
  }

  say(words: string | (() => string)): void {
    if (this.#telling) this.story.push(typeof words === 'string' ? words : words());
  }

  fail(error: Error): void {
    this.failure ??= error;
  }

  /** Runs code as somebody, until it waits for something outside. */
  async as(life: Life | undefined, work: () => void): Promise<void> {
    this.time.owner = life;
    work();
    await settled();
    this.time.owner = undefined;
  }

  born(name: string): Life {
    const life: Life = { name, alive: true, connections: [], sleeps: [] };
    this.lives.push(life);
    return life;
  }

  connect(life: Life, kind: 'producer' | 'consumer'): ModelConnection {
    const connection = new ModelConnection(kind, (sender) => {
      if (!life.alive) this.fail(new Error(`${life.name} goes on after it was killed`));
      this.#queue(sender, life);
    });
    life.connections.push(connection);
    this.#connections.add(connection);
    return connection;
  }

  /** Waits until the run lets it go on. */
  step(life: Life | undefined, say: string): Promise<void> {
    return new Promise((resolve) => this.operations.push({ life, say, run: resolve }));
  }

  /** Sleeps until time has passed or a key of Redis says that there is something to do. */
  sleep(life: Life, key: string, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => wake(), ms);
      const entry = { key, wake };
      function wake(): void {
        clearTimeout(timer);
        const at = life.sleeps.indexOf(entry);
        if (at >= 0) life.sleeps.splice(at, 1);
        resolve();
      }
      life.sleeps.push(entry);
      this.#wakeUp();
    });
  }

  /** A disk for one life: names and fsyncs are steps, so that a crash may come between any two. */
  fileSystem(life: Life): FileSystem {
    const real = this.disk.fileSystem();
    const step = (what: string) => this.step(life, `${life.name}: ${what}`);
    return {
      ...real,
      open: async (path, mode) => {
        const file = await real.open(path, mode);
        return {
          ...file,
          sync: async () => {
            await step(`fsync of ${short(path)}`);
            await file.sync();
          },
        };
      },
      rename: async (from, to) => {
        await step(`rename of ${short(from)}`);
        await real.rename(from, to);
      },
      unlink: async (path) => {
        await step(`removal of ${short(path)}`);
        await real.unlink(path);
      },
    };
  }

  kill(life: Life): void {
    life.alive = false;
    life.sleeps.length = 0;
    this.time.forget(life);
    for (const connection of life.connections) {
      connection.orphan();
      if (this.choices.pick(2) === 0) connection.drop();
    }
    for (let i = this.operations.length - 1; i >= 0; i--) {
      if (this.operations[i]!.life === life) this.operations.splice(i, 1);
    }
  }

  /** Redis ends; of what it had executed and not fsynced it may forget the end. */
  async crashRedis(): Promise<void> {
    const lost = this.choices.pick(this.redis.unsynced + 1);
    this.say(`Redis is killed${lost > 0 ? ` and forgets the last ${lost} of what it had executed` : ''}`);
    this.redisUp = false;
    this.redis.crash(lost);
    this.onRedisCrash();
    // Each as whose it is, or what one starts then would live and die with another.
    for (const connection of this.#connections)
      await this.as(this.#lifeOf(connection), () => this.cut(connection));
    this.operations.push({
      life: undefined,
      say: 'Redis starts again',
      run: () => {
        this.redisUp = true;
        for (const connection of this.#connections)
          if (connection.waiting > 0) this.#queue(connection, undefined);
        this.#wakeUp();
      },
    });
  }

  cut(connection: ModelConnection): void {
    if (connection.kind === 'producer') this.time.owner = this.#lifeOf(connection);
    connection.cut();
    if (connection.waiting > 0) this.#queue(connection, undefined);
  }

  fsync(): void {
    this.#fsynced();
    for (const connection of this.#connections) this.#answer(connection);
  }

  #fsynced(): void {
    this.redis.fsync();
    for (const connection of this.#connections) connection.assure();
    this.onFsync();
  }

  /** Everything that may happen now, what waits longest first. */
  ready(): Operation[] {
    return this.redisUp
      ? this.operations
      : this.operations.filter((operation) => !this.#needsRedis.has(operation));
  }

  readonly #needsRedis = new Set<Operation>();

  async perform(operation: Operation): Promise<void> {
    this.operations.splice(this.operations.indexOf(operation), 1);
    this.#needsRedis.delete(operation);
    this.time.nowMs++; // nothing takes no time
    if (operation.say !== '') this.say(operation.say);
    await this.as(operation.life, operation.run);
  }

  #queue(connection: ModelConnection, life: Life | undefined): void {
    if (!this.redisUp && connection.kind === 'producer') {
      // Later, as ioredis: whoever asked has not got its promise yet.
      queueMicrotask(() => connection.cut());
      return;
    }
    if (this.#queued.has(connection)) return;
    this.#queued.add(connection);
    const name =
      life?.name ?? this.lives.find(({ connections }) => connections.includes(connection))?.name ?? '';
    const operation: Operation = { life: undefined, say: '', run: () => this.#execute(connection, name) };
    this.operations.push(operation);
    this.#needsRedis.add(operation);
  }

  #execute(connection: ModelConnection, name: string): void {
    this.#queued.delete(connection);
    const { waiting } = connection;
    if (waiting === 0) return;
    const count = this.choices.pick(waiting, 0.8) || waiting;
    this.say(() => `Redis executes for ${name}: ${connection.names.slice(0, count).map(plain).join(', ')}`);
    connection.execute(this.redis, count);
    this.onExecuted();
    if (connection.waiting > 0) this.#queue(connection, undefined);
    this.#wakeUp();
    if (this.durability === 'everysec') {
      connection.assure();
      this.#deliver(connection);
      if (this.redis.unsynced > 0) this.#fsyncLater();
      return;
    }
    const how = this.choices.pick(3, 0.8);
    if (how === 2 && this.faultsLeft > 0) {
      this.faultsLeft--;
      this.excuses++;
      this.say('… and the answers are lost: the connection is cut');
      this.#fsynced();
      this.cut(connection);
    } else if (how !== 1) {
      this.#fsynced();
      this.#deliver(connection);
      for (const other of this.#connections) if (other !== connection) this.#answer(other);
    } else {
      this.say('… and has not fsynced it yet');
      this.#fsyncSoon();
    }
  }

  #fsyncPending = false;

  #fsyncSoon(): void {
    if (this.#fsyncPending) return;
    this.#fsyncPending = true;
    this.operations.push({
      life: undefined,
      say: 'Redis fsyncs',
      run: () => {
        this.#fsyncPending = false;
        this.fsync();
      },
    });
  }

  #fsyncLater(): void {
    if (this.#fsyncPending) return;
    this.#fsyncPending = true;
    // What was delivered just now has yet to run, as whose it is.
    const { owner } = this.time;
    this.time.owner = undefined;
    setTimeout(() => {
      this.#fsyncPending = false;
      this.say('Redis fsyncs');
      this.fsync();
    }, 1_000);
    this.time.owner = owner;
  }

  #lifeOf(connection: ModelConnection): Life | undefined {
    return this.lives.find(({ connections }) => connections.includes(connection));
  }

  /** What goes on with the answers is that of whose connection it is. */
  #deliver(connection: ModelConnection): void {
    this.time.owner = this.#lifeOf(connection);
    connection.deliver();
  }

  readonly #answering = new Set<ModelConnection>();

  #answer(connection: ModelConnection): void {
    if (!connection.answered || this.#answering.has(connection)) return;
    this.#answering.add(connection);
    const life = this.#lifeOf(connection);
    this.operations.push({
      life,
      say: `${life?.name ?? 'nobody'} gets its answers`,
      run: () => {
        this.#answering.delete(connection);
        connection.deliver();
      },
    });
  }

  /** Wakes who sleeps until Redis has something for them. */
  #wakeUp(): void {
    if (!this.redisUp) return;
    for (const life of this.lives) {
      for (const sleep of life.sleeps) {
        if (!this.redis.has(sleep.key)) continue;
        const { wake } = sleep;
        sleep.wake = () => {};
        this.operations.push({
          life,
          say: `${life.name} wakes up`,
          run: () => {
            if (this.redisUp) this.redis.call('ZPOPMIN', [sleep.key]);
            wake();
          },
        });
      }
    }
  }
}

function plain(command: string): string {
  return command.replace(/^nrdot/, '').toLowerCase();
}

function short(path: string): string {
  return path.split('/').slice(-2).join('/');
}
