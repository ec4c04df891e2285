import { defineScript, pairsOf, type RedisConnection } from '@nrdot/redis';
import { claims } from './claims.ts';

/** What a request relies on, and changes, in the state that all receivers' limiters share; see `scripts/claims.ts`. */
export interface LimiterClaim {
  hasRefused: boolean;
  /** Hashes in these buffers have 8 bytes, producers 16. */
  keys: Buffer;
  remembered: Buffer;
  gone: Buffer;
  /** Cumulative streams that pass unmerged, among the keys that came in or are remembered. */
  counting: Buffer;
  /** A stream that passes unmerged must not be a source with one of these flags. */
  neverForwarded: number;
  forwarded: Buffer;
  producers: Buffer;
  /** A MessagePack array of field, expected version and value of each source, in turn. */
  sources: Buffer;
  levels: readonly Buffer[];
  /** Field and value of each merged point that is deferred until its interval ends. */
  held: readonly Buffer[];
  /** Which deferred points are sent with these batches: this writer's own, or those left behind under this name. */
  sends: 'own' | LeftPoints | undefined;
  /** Field and JSON of each rule; empty JSON deletes it. */
  rules: readonly string[];
  writtenMs: number;
}

/** Name in Redis of merged points that a former writer left behind. */
export type LeftPoints = `left:${number}`;

/** The claiming receiver, and how far it has read the shared state. */
export interface Claimant {
  epoch: string;
  version: string;
  /** Position up to which the log of keys was read. */
  log: number;
  slot: number;
  token: string;
  maxKeys: number;
  generation: number;
  generationsKept: number;
}

/** The answer to a claim. Only `kept` has changed anything; `later`: a claim before it in the same step was refused. */
export type ClaimAnswer =
  | { kind: 'kept'; state: PipelineState }
  | { kind: 'epoch' | 'writer' | 'sent' | 'later' }
  | { kind: 'keys' | 'full'; state: PipelineState }
  | { kind: 'rules'; version: string; rules: Map<string, string> }
  | { kind: 'sources'; sources: [field: Buffer, value: Buffer | undefined][] }
  | { kind: 'forwarded'; fields: Buffer[] };

export interface PipelineState {
  version: string;
  keys: number;
  sources: number;
  log: number;
  /** The log has been trimmed beyond the position: read all keys. */
  missed: boolean;
  entries: Buffer[];
}

export function claimAnswer(reply: unknown): ClaimAnswer {
  const [kindBytes, ...rest] = reply as [Buffer, ...unknown[]];
  const kind = kindBytes.toString();
  switch (kind) {
    case 'kept':
    case 'keys':
    case 'full':
      return { kind, state: stateOf(rest[0]) };
    case 'rules': {
      const rules = pairsOf(rest[1] as Buffer[]).map(([field, json]) => [`${field}`, `${json}`] as const);
      return { kind, version: String(rest[0]), rules: new Map(rules) };
    }
    case 'sources': {
      const sources = pairsOf(rest[0] as Buffer[]);
      return {
        kind,
        sources: sources.map(([field, value]) => [field, value.length > 0 ? value : undefined]),
      };
    }
    case 'forwarded':
      return { kind, fields: rest[0] as Buffer[] };
    case 'epoch':
    case 'writer':
    case 'sent':
    case 'later':
      return { kind };
    default:
      throw new Error(`the enqueue script said "${kind}" to a claim of the limiter; expected another word`);
  }
}

function stateOf(reply: unknown): PipelineState {
  const parts = reply as unknown[];
  const [version = '', keys, sources, log, missed] = parts.slice(0, 5).map(String);
  return {
    version,
    keys: Number(keys),
    sources: Number(sources),
    log: Number(log),
    missed: missed === '1',
    entries: parts[5] as Buffer[],
  };
}

export function claimArgs(claim: LimiterClaim, claimant: Claimant): (string | number | Buffer)[] {
  const { epoch, version, log, slot, token, maxKeys, generation, generationsKept } = claimant;
  return [
    ...[epoch, version, log, claim.hasRefused ? '1' : '0'],
    ...[claim.keys, claim.remembered, claim.gone, claim.forwarded, claim.producers, claim.sources],
    packed(claim.levels),
    packed(claim.rules.map((text) => Buffer.from(text))),
    ...[slot, token, Math.ceil(claim.writtenMs), maxKeys, generation, generationsKept],
    packed(claim.held),
    claim.sends === 'own' ? slot : (claim.sends ?? ''),
    ...[claim.counting, claim.neverForwarded],
  ];
}

/** A MessagePack array of strings, which Lua decodes in one call. https://github.com/msgpack/msgpack/blob/master/spec.md */
function packed(texts: readonly Buffer[]): Buffer {
  if (texts.length === 0) return Buffer.alloc(0);
  const bytes = Buffer.allocUnsafe(texts.reduce((length, text) => length + 5 + text.length, 5));
  bytes[0] = 0xdd; // an array, and below a text, with a length of 32 bits
  let at = bytes.writeUInt32BE(texts.length, 1);
  for (const text of texts) {
    bytes[at] = 0xdb;
    at = bytes.writeUInt32BE(text.length, at + 1);
    at += text.copy(bytes, at);
  }
  return bytes;
}

/**
 * Leases a slot as a writer of merged streams to a receiver, or renews the lease. Creates what Redis lacks of the shared state:
 * seed of the hashes, time of the first watch, and an epoch by which a loss of data is detected.
 *
 * KEYS  1 limiter (hash)
 * ARGV  1 prefix  2 holder  3 token of this process  4 time to live in ms  5 epoch  6 seed  7 watched since, ms: all three
 *       only if Redis has none  8 generation of keys  9 generations after which a key expires  10 sources not seen since
 *       this second expire  11 position up to which the log of keys was read  12 '1' if the token had a slot before: once it
 *       has lost it, it gets no other, since claims with it may be in flight  13 maximum number of keys of all receivers
 * Deferred points of a writer that lost its slot are set aside under a name of their own, to which nobody writes.
 * Gives slot, epoch, seed, watched since, time of the slot's last write, since when it has levels, whether the slot belonged to
 *   another process, the state of the pipeline, names of points left behind, and how many points are deferred in the slot
 */
const LEASE = `
local rcall, prefix = redis.call, ARGV[1]
local function num(n) return string.format('%.0f', n) end
${claims}
local time = rcall('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
rcall('HSETNX', limiter, 'epoch', ARGV[5])
rcall('HSETNX', limiter, 'seed', ARGV[6])
rcall('HSETNX', limiter, 'watch', ARGV[7])
local function repair(field, value)
  if not whole(rcall('HGET', limiter, field) or '0') then rcall('HSET', limiter, field, value) end
end
-- The time is beyond whatever a receiver has read, so that all of them read everything.
for _, field in ipairs({ 'version', 'log', 'left' }) do repair(field, num(now)) end
for _, part in ipairs({ 'keys', 'forwarded', 'sources' }) do repair('cursor:' .. part, '0') end
local leases, writers = prefix .. ':leases', limiter .. ':writers'
local function set_aside(slot)
  if rcall('EXISTS', limiter .. ':held:' .. slot) == 0 then return end
  local name = 'left:' .. num(rcall('HINCRBY', limiter, 'left', 1))
  rcall('RENAME', limiter .. ':held:' .. slot, limiter .. ':' .. name)
  rcall('RPUSH', limiter .. ':left', name)
end
local taken, own = {}, nil
local all = rcall('HGETALL', leases)
for i = 1, #all, 2 do
  local slot, expires = string.match(all[i+1], '^(%d+) (%d+)$')
  if all[i] == ARGV[2] then
    -- Older versions stored a key count in this field, where this one has a slot.
    own = slot and tonumber(slot) < 1024 and tonumber(slot)
  elseif not slot or tonumber(expires) < now then
    rcall('HDEL', leases, all[i])
    if slot then
      rcall('HDEL', writers, slot .. ':token')
      set_aside(slot)
    end
  else
    taken[tonumber(slot)] = true
  end
end
if not own or taken[own] then
  own = 0
  while taken[own] do own = own + 1 end
end
local slot = num(own)
rcall('HSET', leases, ARGV[2], slot .. ' ' .. num(now + tonumber(ARGV[4])))
local isNew = rcall('HGET', writers, slot .. ':token') ~= ARGV[3]
if isNew then
  set_aside(slot)
  if ARGV[12] == '1' then rcall('HDEL', writers, slot .. ':token') else rcall('HSET', writers, slot .. ':token', ARGV[3]) end
  rcall('HSETNX', writers, slot .. ':since', num(now))
end
forget_keys(tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[13]))
if rcall('HLEN', limiter .. ':producers') > 65536 then
  hdel(limiter .. ':producers', rcall('HRANDFIELD', limiter .. ':producers', 1024))
end
for _, part in ipairs({ 'forwarded', 'sources' }) do
  local cursor = rcall('HGET', limiter, 'cursor:' .. part) or '0'
  local found = rcall('HSCAN', limiter .. ':' .. part, cursor, 'COUNT', 1024)
  local gone = {}
  for i = 1, #found[2], 2 do
    local value = found[2][i+1]
    local old
    if part == 'forwarded' then
      old = (tonumber(value) or 0) < tonumber(ARGV[8]) - 144 * tonumber(ARGV[9])
    elseif #value < 21 then
      old = true -- the time is missing
    else
      local a, b, c, d = string.byte(value, 2, 5)
      old = a + 256 * b + 65536 * c + 16777216 * d < tonumber(ARGV[10])
    end
    if old then gone[#gone+1] = found[2][i] end
  end
  hdel(limiter .. ':' .. part, gone)
  rcall('HSET', limiter, 'cursor:' .. part, found[1])
end
local state = rcall('HMGET', limiter, 'epoch', 'seed', 'watch')
local writer = rcall('HMGET', writers, slot .. ':last', slot .. ':since')
return { slot, state[1], state[2], state[3], num(finite(writer[1], 0)), num(finite(writer[2], now)),
  isNew and '1' or '0', pipeline_state(tonumber(ARGV[11])),
  rcall('LRANGE', limiter .. ':left', 0, 15), num(rcall('HLEN', limiter .. ':held:' .. slot)) }
`;

export interface Lease {
  slot: number;
  epoch: string;
  seed: number;
  watchMs: number;
  /** Time of the slot's last write, Unix ms. */
  writtenMs: number;
  levelsSinceMs: number;
  /** The slot was free or belonged to another process. */
  isNew: boolean;
  state: PipelineState;
  /** Points that former writers left behind: some of the names, oldest first. */
  left: LeftPoints[];
  held: number;
}

/**
 * Restores sources to a Redis that has lost its data. Receivers may remember a source as of different times, since each one
 * advances it with what it receives: the latest version wins, so that nothing is counted twice.
 *
 * KEYS  1 sources (hash)
 * ARGV  fields and values in turn; the time is at byte 14 of a value, 64 bits, low end first (the receiver's source-table.ts)
 */
const RESTORE = `
local rcall = redis.call
local function time_of(value)
  local a, b, c, d, e, f, g, h = string.byte(value, 14, 21)
  return e + 256 * f + 65536 * g + 16777216 * h, a + 256 * b + 65536 * c + 16777216 * d
end
for i = 1, #ARGV, 2 do
  local there = rcall('HGET', KEYS[1], ARGV[i])
  if there and #there < 21 then there = nil end -- somebody has made it something else
  local later = not there
  if there then
    local high, low = time_of(ARGV[i+1])
    local high_there, low_there = time_of(there)
    later = high > high_there or (high == high_there and low > low_there)
  end
  if later then rcall('HSET', KEYS[1], ARGV[i], ARGV[i+1]) end
end
return 1
`;

const RESTORED_AT_ONCE = 1000;

interface LeaseOptions {
  prefix: string;
  /** Unique among receivers, and the same after a restart. */
  holder: string;
  leaseMs: number;
}

type Leasing = RedisConnection & {
  nrdotLeaseBuffer(...args: (string | number)[]): Promise<unknown[]>;
  nrdotRestore(key: string, ...sources: Buffer[]): Promise<unknown>;
};

/** The state that the limiters of all receivers share, in Redis. */
export class LimiterState {
  readonly #redis: Leasing;
  readonly #options: LeaseOptions;
  readonly #key: string;

  constructor(redis: RedisConnection, options: LeaseOptions) {
    defineScript(redis, 'nrdotLease', 1, LEASE);
    defineScript(redis, 'nrdotRestore', 1, RESTORE);
    this.#redis = redis as Leasing;
    this.#options = options;
    this.#key = `${options.prefix}:limiter`;
  }

  /**
   * Takes or renews the slot; call it several times per lease duration.
   * @param token identifies the holder as a writer: claims with an older one are refused from now on
   * @param wasLeased the token had a slot before; if that slot is lost (`isNew`), the caller must take another token
   */
  async lease(
    token: string,
    wasLeased: boolean,
    begin: Omit<Claimant, 'slot' | 'token' | 'version'> &
      Record<'seed' | 'watchMs' | 'sourcesSinceSec', number>,
  ): Promise<Lease> {
    const { prefix, holder, leaseMs } = this.#options;
    const [slot, epoch, seed, watch, written, since, isNew, state, left, held] =
      await this.#redis.nrdotLeaseBuffer(
        ...[this.#key, prefix, holder, token, leaseMs, begin.epoch, begin.seed, begin.watchMs],
        ...[begin.generation, begin.generationsKept, begin.sourcesSinceSec, begin.log],
        ...[wasLeased ? '1' : '0', begin.maxKeys],
      );
    return {
      slot: Number(slot),
      epoch: String(epoch),
      seed: Number(seed),
      watchMs: Number(watch),
      writtenMs: Number(written),
      levelsSinceMs: Number(since),
      isNew: String(isNew) === '1',
      state: stateOf(state),
      left: (left as Buffer[]).map((name) => name.toString() as LeftPoints),
      held: Number(held),
    };
  }

  /** The merged points left behind under a name; none once they have been sent. */
  leftPoints(name: LeftPoints): Promise<Buffer[]> {
    return this.#redis.hvalsBuffer(`${this.#key}:${name}`);
  }

  /** Hashes of all keys, 8 bytes each. */
  async keys(): Promise<Buffer> {
    return Buffer.concat(await this.#redis.hkeysBuffer(`${this.#key}:keys`));
  }

  /** All producers with the time of their first collection, 16 bytes each. */
  async producers(): Promise<Buffer> {
    return Buffer.concat((await this.#redis.callBuffer('HGETALL', `${this.#key}:producers`)) as Buffer[]);
  }

  async rules(): Promise<Map<string, string>> {
    return new Map(Object.entries(await this.#redis.hgetall(`${this.#key}:rules`)));
  }

  /** Restores a receiver's sources and levels in a Redis that has lost its data, unless Redis has later ones. */
  async restore(
    sources: readonly (readonly [field: Buffer, value: Buffer])[],
    slot: number,
    levels: readonly (readonly [field: Buffer, value: Buffer])[],
  ): Promise<void> {
    for (let from = 0; from < sources.length; from += RESTORED_AT_ONCE) {
      const some = sources.slice(from, from + RESTORED_AT_ONCE);
      await this.#redis.nrdotRestore(`${this.#key}:sources`, ...some.flat());
    }
    await Promise.all(
      levels.map(([field, value]) => this.#redis.hset(`${this.#key}:levels:${slot}`, field, value)),
    );
  }

  /** The levels of a slot, by field. */
  async levels(slot: number): Promise<Map<string, Buffer>> {
    const all = (await this.#redis.callBuffer('HGETALL', `${this.#key}:levels:${slot}`)) as Buffer[];
    return new Map(pairsOf(all).map(([field, value]) => [field.toString('latin1'), value]));
  }

  async release(): Promise<void> {
    await this.#redis.hdel(`${this.#options.prefix}:leases`, this.#options.holder);
  }
}
