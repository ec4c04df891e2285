/**
 * Redis as far as the queue uses it, in memory and on a virtual clock: the very scripts of the product, each atomic, and
 * an append-only file of which a crash may lose the end that was not fsynced. `tests/integration/redis-model.test.ts`
 * holds it against the real one.
 */
import { compile, LuaError, LuaTable, type LuaValue, text } from './lua.ts';
import { library } from './lua-library.ts';

/** Strings are bytes as Latin-1. */
export type Reply = number | string | null | Reply[] | { status: string };

type Value =
  | { string: string }
  | { hash: Map<string, string> }
  | { list: string[] }
  | { zset: Map<string, number> };
interface Entry {
  value: Value;
  expiresAt: number;
}

/** What a unit of the append-only file replaced. */
type Undo = Map<string, Entry | undefined>;

/** Commands that Redis refuses when it is out of memory. */
const NEEDS_MEMORY = new Set(['SET', 'HSET', 'HSETNX', 'HINCRBY', 'LPUSH', 'RPUSH', 'RPOPLPUSH', 'ZADD']);
const READS = new Set([
  'GET',
  'MGET',
  'EXISTS',
  'TTL',
  'HGET',
  'HMGET',
  'HLEN',
  'HGETALL',
  'HKEYS',
  'HVALS',
  'HSCAN',
  'LINDEX',
  'LLEN',
  'LRANGE',
  'LPOS',
  'ZRANGE',
  'ZRANGEBYSCORE',
  'ZCARD',
  'TIME',
  'TYPE',
]);

export class RedisError extends Error {}

interface Script {
  run(globals: LuaTable): LuaValue;
  allowsOom: boolean;
}
const compiled = new Map<string, Script>();

export class RedisModel {
  readonly #now: () => number;
  readonly #keys = new Map<string, Entry>();
  readonly #library: LuaTable;
  /** Units that are executed and not fsynced, oldest first. */
  #unsynced: Undo[] = [];
  #unit: Undo | undefined;
  /** Set while `maxmemory` is reached. */
  outOfMemory = false;
  #running: { allowsOom: boolean; wrote: boolean } | undefined;

  constructor(now: () => number) {
    this.#now = now;
    this.#library = library((name, ...args) =>
      toLua(
        this.#fromScript(
          text(name as LuaValue),
          args.map((arg) => argument(arg)),
        ),
      ),
    );
  }

  /** Executes one command. @throws RedisError */
  call(name: string, args: readonly string[]): Reply {
    const command = name.toUpperCase();
    if (this.outOfMemory && NEEDS_MEMORY.has(command)) throw new RedisError(OOM);
    return this.#asUnit(() => this.#execute(command, args));
  }

  /** Runs a script, whole or, when it throws before it wrote anything, not at all. @throws RedisError */
  eval(lua: string, keys: readonly string[], args: readonly string[]): Reply {
    let script = compiled.get(lua);
    if (!script) {
      script = { run: compile(lua), allowsOom: /^#!lua.*allow-oom/.test(lua) };
      compiled.set(lua, script);
    }
    const { run, allowsOom } = script;
    if (this.outOfMemory && lua.startsWith('#!lua') && !allowsOom) throw new RedisError(OOM);
    const globals = this.#library;
    globals.set('KEYS', LuaTable.of(keys));
    globals.set('ARGV', LuaTable.of(args));
    return this.#asUnit(() => {
      this.#running = { allowsOom: allowsOom || !this.outOfMemory, wrote: false };
      try {
        return fromLua(run(globals));
      } catch (error) {
        if (error instanceof LuaError || error instanceof RedisError) throw new RedisError(error.message);
        throw error;
      } finally {
        this.#running = undefined;
      }
    });
  }

  /** How many units a crash could lose. */
  get unsynced(): number {
    return this.#unsynced.length;
  }

  /** Everything executed so far is on the disk. */
  fsync(): void {
    this.#unsynced = [];
  }

  /** Comes back without its last `lost` units. */
  crash(lost: number): void {
    for (let i = 0; i < lost; i++) {
      for (const [key, entry] of this.#unsynced.pop() ?? []) {
        if (entry) this.#keys.set(key, entry);
        else this.#keys.delete(key);
      }
    }
    this.#unsynced = [];
    this.outOfMemory = false;
  }

  // Looks from outside, which are no commands.

  /** All keys that there are. */
  keys(): string[] {
    return [...this.#keys.keys()].filter((key) => this.#entry(key));
  }

  has(key: string): boolean {
    return this.#entry(key) !== undefined;
  }

  /** Whether a key is there and does not expire. */
  keeps(key: string): boolean {
    return this.#entry(key)?.expiresAt === Number.POSITIVE_INFINITY;
  }

  stringAt(key: string): string | undefined {
    return this.#string(key);
  }

  hashAt(key: string): ReadonlyMap<string, string> {
    return this.#hash(key) ?? NO_FIELDS;
  }

  /** What a list or a sorted set has; the order is that of a list alone. */
  membersAt(key: string): Iterable<string> {
    const value = this.#entry(key)?.value;
    if (!value) return [];
    if ('list' in value) return value.list;
    if ('zset' in value) return value.zset.keys();
    throw new RedisError(WRONG_TYPE);
  }

  #asUnit(work: () => Reply): Reply {
    const unit: Undo = new Map();
    this.#unit = unit;
    try {
      return work();
    } finally {
      this.#unit = undefined;
      if (unit.size > 0) this.#unsynced.push(unit);
    }
  }

  #fromScript(name: string, args: string[]): Reply {
    const running = this.#running!;
    if (!running.allowsOom && !running.wrote && NEEDS_MEMORY.has(name)) throw new RedisError(OOM);
    if (!READS.has(name)) running.wrote = true;
    return this.#execute(name, args);
  }

  #entry(key: string): Entry | undefined {
    const entry = this.#keys.get(key);
    if (!entry || entry.expiresAt > this.#now()) return entry;
    this.#keys.delete(key);
    return undefined;
  }

  /** Before a key is changed. */
  #touch(key: string): Entry | undefined {
    const entry = this.#entry(key);
    if (!this.#unit!.has(key))
      this.#unit!.set(key, entry && { value: copy(entry.value), expiresAt: entry.expiresAt });
    return entry;
  }

  #remove(key: string): boolean {
    return this.#touch(key) !== undefined && this.#keys.delete(key);
  }

  #hash(key: string): Map<string, string> | undefined {
    const value = this.#entry(key)?.value;
    if (value && !('hash' in value)) throw new RedisError(WRONG_TYPE);
    return value?.hash;
  }

  #list(key: string): string[] | undefined {
    const value = this.#entry(key)?.value;
    if (value && !('list' in value)) throw new RedisError(WRONG_TYPE);
    return value?.list;
  }

  #zset(key: string): Map<string, number> | undefined {
    const value = this.#entry(key)?.value;
    if (value && !('zset' in value)) throw new RedisError(WRONG_TYPE);
    return value?.zset;
  }

  #string(key: string): string | undefined {
    const value = this.#entry(key)?.value;
    if (value && !('string' in value)) throw new RedisError(WRONG_TYPE);
    return value?.string;
  }

  #stringOrNot(key: string): string | undefined {
    const value = this.#entry(key)?.value;
    return value && 'string' in value ? value.string : undefined;
  }

  #make<T extends Value>(key: string, value: T): T {
    this.#keys.set(key, { value, expiresAt: Number.POSITIVE_INFINITY });
    return value;
  }

  #hashToChange(key: string): Map<string, string> {
    this.#touch(key);
    return this.#hash(key) ?? this.#make(key, { hash: new Map() }).hash;
  }

  #listToChange(key: string): string[] {
    this.#touch(key);
    return this.#list(key) ?? this.#make(key, { list: [] }).list;
  }

  #zsetToChange(key: string): Map<string, number> {
    this.#touch(key);
    return this.#zset(key) ?? this.#make(key, { zset: new Map() }).zset;
  }

  #dropEmpty(key: string, size: number): void {
    if (size === 0) this.#keys.delete(key);
  }

  #execute(name: string, a: readonly string[]): Reply {
    const key = a[0] ?? '';
    switch (name) {
      case 'TIME': {
        const ms = this.#now();
        return [String(Math.floor(ms / 1000)), String((ms % 1000) * 1000)];
      }
      case 'SET':
        return this.#set(key, a);
      case 'GET':
        return this.#string(key) ?? null;
      case 'MGET':
        return a.map((each) => this.#stringOrNot(each) ?? null);
      case 'DEL':
      case 'UNLINK':
        return a.filter((each) => this.#remove(each)).length;
      case 'EXISTS':
        return a.filter((each) => this.#entry(each)).length;
      case 'TTL': {
        const entry = this.#entry(key);
        if (!entry) return -2;
        return entry.expiresAt === Number.POSITIVE_INFINITY
          ? -1
          : Math.floor((entry.expiresAt - this.#now() + 500) / 1000);
      }
      case 'PERSIST':
      case 'PEXPIRE': {
        const entry = this.#entry(key);
        const until = name === 'PERSIST' ? Number.POSITIVE_INFINITY : this.#now() + Number(a[1]);
        if (!entry || (name === 'PERSIST' && entry.expiresAt === until)) return 0;
        this.#touch(key);
        entry.expiresAt = until;
        return 1;
      }
      case 'RENAME': {
        const entry = this.#entry(key);
        if (!entry) throw new RedisError('ERR no such key');
        this.#touch(key);
        this.#touch(a[1]!);
        this.#keys.delete(key);
        this.#keys.set(a[1]!, entry);
        return { status: 'OK' };
      }
      default:
        if (name.startsWith('H')) return this.#onHash(name, key, a);
        if (name.startsWith('Z')) return this.#onZset(name, key, a);
        return this.#onList(name, key, a);
    }
  }

  #set(key: string, a: readonly string[]): Reply {
    const options = a.slice(2).map((option) => option.toUpperCase());
    if (options.includes('NX') && this.#entry(key)) return null;
    this.#touch(key);
    this.#make(key, { string: a[1]! });
    for (const [unit, factor] of [
      ['EX', 1000],
      ['PX', 1],
    ] as const) {
      const at = options.indexOf(unit);
      if (at >= 0) this.#keys.get(key)!.expiresAt = this.#now() + Number(options[at + 1]) * factor;
    }
    return { status: 'OK' };
  }

  #onHash(name: string, key: string, a: readonly string[]): Reply {
    switch (name) {
      case 'HGET':
        return this.#hash(key)?.get(a[1]!) ?? null;
      case 'HMGET': {
        const hash = this.#hash(key);
        return a.slice(1).map((field) => hash?.get(field) ?? null);
      }
      case 'HLEN':
        return this.#hash(key)?.size ?? 0;
      case 'HGETALL':
        return [...(this.#hash(key) ?? [])].flat();
      case 'HKEYS':
        return [...(this.#hash(key) ?? NO_FIELDS).keys()];
      case 'HVALS':
        return [...(this.#hash(key) ?? NO_FIELDS).values()];
      case 'HSCAN':
        // All at once, as the real one may.
        return ['0', [...(this.#hash(key) ?? [])].flat()];
      case 'HSETNX': {
        if (this.#hash(key)?.has(a[1]!)) return 0;
        this.#hashToChange(key).set(a[1]!, a[2]!);
        return 1;
      }
      case 'HSET': {
        const hash = this.#hashToChange(key);
        const before = hash.size;
        for (let i = 1; i < a.length; i += 2) hash.set(a[i]!, a[i + 1]!);
        return hash.size - before;
      }
      case 'HDEL': {
        if (!this.#hash(key)) return 0;
        const hash = this.#hashToChange(key);
        const removed = a.slice(1).filter((field) => hash.delete(field)).length;
        this.#dropEmpty(key, hash.size);
        return removed;
      }
      case 'HINCRBY': {
        if (!/^-?\d+$/.test(a[2]!)) throw new RedisError('ERR value is not an integer or out of range');
        const hash = this.#hashToChange(key);
        const value = Number(hash.get(a[1]!) ?? 0) + Number(a[2]);
        hash.set(a[1]!, String(value));
        return value;
      }
      default:
        throw new RedisError(`${name} is not known to the model`);
    }
  }

  #onList(name: string, key: string, a: readonly string[]): Reply {
    switch (name) {
      case 'LPUSH':
      case 'RPUSH': {
        const list = this.#listToChange(key);
        for (const value of a.slice(1)) name === 'LPUSH' ? list.unshift(value) : list.push(value);
        return list.length;
      }
      case 'RPOP': {
        if (!this.#list(key)) return null;
        const list = this.#listToChange(key);
        const [, count] = a;
        const values = list.splice(-Number(count ?? 1)).reverse();
        this.#dropEmpty(key, list.length);
        return count === undefined ? values[0]! : values;
      }
      case 'RPOPLPUSH': {
        if (key === a[1] && this.#list(key)) {
          // Turned in place: with one element the list is never empty, and keeps its expiry.
          const list = this.#listToChange(key);
          list.unshift(list.pop()!);
          return list[0]!;
        }
        if (this.#list(key)) this.#list(a[1]!); // a wrong type is found before anything is taken
        const value = this.#onList('RPOP', key, [key]);
        if (value !== null) this.#listToChange(a[1]!).unshift(value as string);
        return value;
      }
      case 'LINDEX':
        return this.#list(key)?.at(Number(a[1])) ?? null;
      case 'LLEN':
        return this.#list(key)?.length ?? 0;
      case 'LPOS': {
        const at = this.#list(key)?.indexOf(a[1]!) ?? -1;
        return at < 0 ? null : at;
      }
      case 'LRANGE':
        return slice(this.#list(key) ?? [], Number(a[1]), Number(a[2]));
      case 'LTRIM': {
        if (!this.#list(key)) return { status: 'OK' };
        const list = this.#listToChange(key);
        list.splice(0, list.length, ...slice(list, Number(a[1]), Number(a[2])));
        this.#dropEmpty(key, list.length);
        return { status: 'OK' };
      }
      case 'LREM': {
        if (Math.abs(Number(a[1])) !== 1) throw new RedisError('LREM of several is not known to the model');
        const list = this.#list(key) ?? [];
        const at = Number(a[1]) > 0 ? list.indexOf(a[2]!) : list.lastIndexOf(a[2]!);
        if (at < 0) return 0;
        this.#listToChange(key).splice(at, 1);
        this.#dropEmpty(key, list.length);
        return 1;
      }
      default:
        throw new RedisError(`${name} is not known to the model`);
    }
  }

  #onZset(name: string, key: string, a: readonly string[]): Reply {
    switch (name) {
      case 'ZADD': {
        const zset = this.#zsetToChange(key);
        const before = zset.size;
        for (let i = 1; i < a.length; i += 2) zset.set(a[i + 1]!, Number(a[i]));
        return zset.size - before;
      }
      case 'ZREM': {
        if (!this.#zset(key)) return 0;
        const zset = this.#zsetToChange(key);
        const removed = a.slice(1).filter((member) => zset.delete(member)).length;
        this.#dropEmpty(key, zset.size);
        return removed;
      }
      case 'ZCARD':
        return this.#zset(key)?.size ?? 0;
      case 'ZPOPMIN': {
        const [found] = this.#ordered(key);
        if (!found) return [];
        this.#onZset('ZREM', key, [key, found[0]]);
        return [found[0], String(found[1])];
      }
      case 'ZRANGE': {
        const found = slice(this.#ordered(key), Number(a[1]), Number(a[2]));
        return a[3]?.toUpperCase() === 'WITHSCORES'
          ? found.flatMap(([m, score]) => [m, String(score)])
          : found.map(([m]) => m);
      }
      case 'ZRANGEBYSCORE': {
        const found = this.#ordered(key).filter(
          ([, score]) => score >= Number(a[1]) && score <= Number(a[2]),
        );
        const limited = a[3] === undefined ? found : found.slice(Number(a[4]), Number(a[4]) + Number(a[5]));
        return limited.map(([member]) => member);
      }
      default:
        throw new RedisError(`${name} is not known to the model`);
    }
  }

  #ordered(key: string): [string, number][] {
    return [...(this.#zset(key) ?? [])].sort(([m, x], [n, y]) => x - y || (m < n ? -1 : 1));
  }
}

const NO_FIELDS: ReadonlyMap<string, string> = new Map();
const OOM = "OOM command not allowed when used memory > 'maxmemory'.";
const WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value';

function copy(value: Value): Value {
  if ('hash' in value) return { hash: new Map(value.hash) };
  if ('list' in value) return { list: [...value.list] };
  if ('zset' in value) return { zset: new Map(value.zset) };
  return value;
}

function slice<T>(list: readonly T[], start: number, stop: number): T[] {
  return list.slice(start, stop === -1 ? undefined : stop + 1);
}

/** What a script gives to a command. */
function argument(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') {
    // String() would say 1e21.
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value).toString() : String(value);
  }
  throw new RedisError('ERR Lua redis lib command arguments must be strings or integers');
}

function toLua(reply: Reply): LuaValue {
  if (reply === null) return false;
  if (typeof reply !== 'object') return reply;
  if (Array.isArray(reply)) return LuaTable.of(reply.map(toLua));
  const table = new LuaTable();
  table.set('ok', reply.status);
  return table;
}

function fromLua(value: LuaValue): Reply {
  if (typeof value === 'number') return Math.trunc(value);
  if (typeof value === 'string') return value;
  if (value === true) return 1;
  if (value instanceof LuaTable) return value.list.map(fromLua);
  return null;
}
