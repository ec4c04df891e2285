/**
 * Lua for scripts that complete or release a job. They change it only with the consumer's own lock: once the lock has expired and
 * another consumer has taken the job, it is that consumer's.
 */
export const jobRelease = `
local function release_job(queue, id, token)
  local lock = redis.call('GET', queue .. id .. ':lock')
  if lock and lock ~= token then return false end
  local was_active = redis.call('LREM', queue .. 'active', -1, id) == 1
  redis.call('DEL', queue .. id .. ':lock')
  return was_active
end
local function complete(prefix, name, id, token)
  local queue = prefix .. ':' .. name .. ':'
  if not release_job(queue, id, token) then return 0 end
  if name == 'export' then
    -- Only jobs with a size were counted. A count that cannot be written is no error: the move resets the counts when all is idle.
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
 * Releases a job: as done, or into BullMQ's delayed set for another attempt. If a job is reported done but still owns a payload,
 * requeue it: its settlement was in the AOF tail that Redis lost.
 *
 * KEYS  1 delayed  2 marker
 * ARGV  1 prefix  2 queue  3 id  4 lock token  5 delay in ms, or -1 if it is done  6 message for people
 * Gives 1; 0 if the lock was no longer this consumer's, or the job was requeued
 */
export const release = `#!lua flags=allow-oom
${jobRelease}
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
  if release_job(queue, id, ARGV[4]) then
    redis.call('RPUSH', queue .. 'wait', id)
    redis.call('ZADD', KEYS[2], 0, '0')
  end
  return 0
end
redis.call('ZCARD', KEYS[1])
redis.call('ZCARD', KEYS[2])
if redis.call('HLEN', queue .. id) == 0 or not release_job(queue, id, ARGV[4]) then return 0 end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + delay
local tried = tonumber(redis.call('HGET', queue .. id, 'atm')) or 0
redis.call('HSET', queue .. id, 'atm', string.format('%.0f', tried + 1), 'delay', delay, 'failedReason', ARGV[6])
redis.call('ZADD', KEYS[1], string.format('%.0f', at * 4096), id)
-- BullMQ's workers read the next due time from the marker's score.
redis.call('ZADD', KEYS[2], math.floor(tonumber(redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) / 4096), '1')
return 1
`;
