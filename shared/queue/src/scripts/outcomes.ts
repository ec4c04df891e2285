/**
 * Outcomes of replayed batches have numbers, counted since the prefix was first used: the first in the list has that of the
 * counter beside it. So it does not matter when a command comes twice, or late from a dlq that is gone.
 */
const numbers = `
local base = tonumber(redis.call('GET', KEYS[2])) or 0
-- Beyond the end: Redis has lost its memory, and counts again.
local function place(number)
  local at = number - base
  if at < 0 or at > redis.call('LLEN', KEYS[1]) then return 0 end
  return at
end
`;

/**
 * KEYS  1 outcomes  2 how many were forgotten
 * ARGV  1 number of the first that is wanted  2 most
 * Gives { number of the first that is there, number of the first that is given, outcomes … }
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
 * KEYS  1 outcomes  2 how many were forgotten
 * ARGV  1 number of the first that stays
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
