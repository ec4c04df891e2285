import type { RedisConnection } from './connection.ts';

/**
 * A budget that receivers share: each leases its part of it, and together they never hold more. A lease that is not
 * renewed expires and goes back; one that can't be renewed because Redis is away is worked on meanwhile.
 *
 * KEYS  1 leases (hash: holder → "keys until-ms")
 * ARGV  1 holder  2 budget  3 time to live in ms
 * Gives the keys leased: a fair share of the budget, or what the others leave until they have given theirs back
 */
const LEASE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local budget, holders, taken = tonumber(ARGV[2]), 1, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local keys, expires = string.match(all[i+1], '^(%d+) (%d+)$')
  if not keys or tonumber(expires) < now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    holders, taken = holders + 1, taken + tonumber(keys)
  end
end
local granted = math.max(0, math.min(math.floor(budget / holders), budget - taken))
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', granted, now + tonumber(ARGV[3])))
return granted
`;

export interface KeyBudgetOptions {
  /** Name of the hash. */
  key: string;
  /** Unique among receivers. */
  holder: string;
  /** Keys of all receivers together. */
  budget: number;
  leaseMs: number;
}

type Scripted = RedisConnection & {
  nrdotLease(leases: string, holder: string, budget: number, ttlMs: number): Promise<number>;
};

/** One receiver's part of the budget. */
export class KeyBudget {
  readonly #redis: Scripted;
  readonly #options: KeyBudgetOptions;

  constructor(redis: RedisConnection, options: KeyBudgetOptions) {
    redis.defineCommand('nrdotLease', { numberOfKeys: 1, lua: LEASE });
    this.#redis = redis as Scripted;
    this.#options = options;
  }

  /**
   * Leases or renews; call several times in the time a lease lasts.
   * @returns keys that may be used now
   */
  lease(): Promise<number> {
    const { key, holder, budget, leaseMs } = this.#options;
    return this.#redis.nrdotLease(key, holder, budget, leaseMs);
  }

  /** Gives it back at once. */
  async release(): Promise<void> {
    await this.#redis.hdel(this.#options.key, this.#options.holder);
  }
}
