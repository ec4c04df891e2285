/**
 * Outcomes of replayed batches have indexes, counted since the prefix was first used; the counter beside the list is the index
 * of its first entry. So commands that are repeated, or come late from a dlq that is gone, do no harm.
 */
const numbers = `
local base = tonumber(redis.call('GET', KEYS[2])) or 0
-- Index past the end: Redis was restored from an older state; restart from 0.
local function place(number)
  local at = number - base
  if at < 0 or at > redis.call('LLEN', KEYS[1]) then return 0 end
  return at
end
`;

/**
 * KEYS  1 outcomes  2 how many were forgotten
 * ARGV  1 index of the first one wanted  2 maximum number
 * Gives { index of the oldest one left, index of the first one returned, outcomes … }
 */
export const readOutcomes = `#!lua flags=allow-oom
${numbers}
local at = place(tonumber(ARGV[1]))
local result = redis.call('LRANGE', KEYS[1], at, at + ARGV[2] - 1)
table.insert(result, 1, base + at)
table.insert(result, 1, base)
return result
`;

/**
 * A write behind the outcomes that were read: once replicas have it, they have those too.
 *
 * KEYS  1 fence
 * ARGV  1 any value
 */
export const fence = `#!lua flags=allow-oom
redis.call('SET', KEYS[1], ARGV[1])
`;

/**
 * KEYS  1 outcomes  2 how many were forgotten
 * ARGV  1 index of the first one to keep
 * Gives how many were forgotten
 */
export const forgetOutcomes = `#!lua flags=allow-oom
${numbers}
local count = place(tonumber(ARGV[1]))
if count == 0 then return 0 end
redis.call('LTRIM', KEYS[1], count, -1)
redis.call('SET', KEYS[2], string.format('%.0f', base + count))
return count
`;
