/**
 * How a job leaves a consumer of ours, as Lua that other scripts include. The job is only touched by who holds its
 * lock: when it was given to another one meanwhile, that one ends it.
 */
export const leaving = `
local function leave(queue, id, token)
  local lock = redis.call('GET', queue .. id .. ':lock')
  if lock and lock ~= token then return false end
  local was_active = redis.call('LREM', queue .. 'active', -1, id) == 1
  redis.call('DEL', queue .. id .. ':lock')
  return was_active
end
local function complete(prefix, name, id, token)
  local queue = prefix .. ':' .. name .. ':'
  if not leave(queue, id, token) then return 0 end
  if name == 'export' then
    -- Only what has a size was counted. The counts are begun anew in the next quiet moment (the move): no step fails for them.
    local job = redis.pcall('HMGET', queue .. id, 'name', 'size')
    if job[1] and job[2] then
      redis.pcall('HINCRBY', prefix .. ':signals', 'out:' .. job[1], -1)
      redis.pcall('HINCRBY', prefix .. ':signals', 'bytes:' .. job[1], '-' .. job[2])
    end
  end
  redis.call('UNLINK', queue .. id)
  return 1
end
`;

/**
 * Ends a job: it is done, or it waits in BullMQ's delayed set for another try. One that is said to be done while Redis holds
 * a payload of it waits again: the step that handed it over was in the end that Redis has forgotten.
 *
 * KEYS  1 delayed  2 marker
 * ARGV  1 prefix  2 queue  3 id  4 lock token  5 delay in ms, or -1 when it is done  6 why it waits, for people
 * Gives 1; 0 when it was not this consumer's any more, or waits again
 */
export const leave = `#!lua flags=allow-oom
${leaving}
local queue, id, delay = ARGV[1] .. ':' .. ARGV[2] .. ':', ARGV[3], tonumber(ARGV[5])
local function holds_payload()
  local text = redis.call('HGET', queue .. id, 'data')
  local readable, job = pcall(cjson.decode, text or '{}')
  for _, batch in ipairs(readable and type(job) == 'table' and type(job.batches) == 'table' and job.batches or {}) do
    local key = type(batch) == 'table' and batch.key
    if key and redis.call('TTL', ARGV[1] .. ':payload:' .. tostring(key)) == -1 then return true end
  end
  return false
end
if delay < 0 then
  if not holds_payload() then return complete(ARGV[1], ARGV[2], id, ARGV[4]) end
  if leave(queue, id, ARGV[4]) then
    redis.call('RPUSH', queue .. 'wait', id)
    redis.call('ZADD', KEYS[2], 0, '0')
  end
  return 0
end
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
if redis.call('HLEN', queue .. id) == 0 or not leave(queue, id, ARGV[4]) then return 0 end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + delay
local tried = tonumber(redis.call('HGET', queue .. id, 'atm')) or 0
redis.call('HSET', queue .. id, 'atm', string.format('%.0f', tried + 1), 'delay', delay, 'failedReason', ARGV[6])
redis.call('ZADD', KEYS[1], string.format('%.0f', at * 4096), id)
-- The marker's score tells BullMQ's workers when to look.
redis.call('ZADD', KEYS[2], math.floor(tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) / 4096), '1')
return 1
`;
