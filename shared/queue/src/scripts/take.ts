import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * Takes jobs from a queue's wait list for a consumer of ours: what BullMQ's moveToActive does for one job, for several
 * at once and with their payloads, so that a batch costs its exporter one round trip and not five. A job is locked in
 * the step that makes it active: one that is active without a lock belongs to a consumer that is gone, and is given
 * back here at once.
 *
 * KEYS  1 wait  2 active  3 delayed  4 meta  5 marker
 * ARGV  1 prefix  2 queue  3 lock token  4 lock in ms  5 most jobs  6 most bytes  7 whether one larger job may pass
 *       8 whether to look for jobs of consumers that are gone
 * Gives { jobs that still wait, ms until the next delayed job or -1, a line for each odd job that went to the failed set,
 *   jobs: { id, data, attempts, payloads } … }
 */
export const take = `#!lua flags=allow-oom
${prelude}
${jobs}
expect('LLEN', { KEYS[1], KEYS[2] })
expect('ZCARD', { KEYS[3], KEYS[5] })
local prefix, token, lock_ms = ARGV[1], ARGV[3], ARGV[4]
local most, most_bytes, alone = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local queue = prefix .. ':' .. ARGV[2] .. ':'
local time = rcall('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[8] == '1' then
  for _, id in ipairs(rcall('LRANGE', KEYS[2], 0, -1)) do
    if rcall('EXISTS', queue .. id .. ':lock') == 0 then
      rcall('LREM', KEYS[2], 1, id)
      rcall('RPUSH', KEYS[1], id)
    end
  end
end
if rcall('HGET', KEYS[4], 'paused') then return { 0, -1, odd } end
-- BullMQ's score of a delayed job: its time in ms, times 4096.
local due = rcall('ZRANGEBYSCORE', KEYS[3], 0, string.format('%.0f', (now + 1) * 4096 - 1), 'LIMIT', 0, 1000)
for _, id in ipairs(due) do
  rcall('ZREM', KEYS[3], id)
  local known = redis.pcall('HLEN', queue .. id)
  if type(known) == 'table' then
    fail_job(prefix, ARGV[2], id, 'its key is no hash', now)
  elseif known > 0 then
    rcall('LPUSH', KEYS[1], id)
    rcall('HSET', queue .. id, 'delay', 0)
  end
end
local result = { 0, -1, odd }
-- Payloads by batch; nothing where a batch was settled or handed over already.
local function payloads_of(job)
  local payloads = {}
  for i, batch in ipairs(job.batches) do
    local payload = redis.pcall('GET', prefix .. ':payload:' .. batch.key)
    if type(payload) == 'table' then return nil end
    payloads[i] = payload
  end
  return payloads
end
while most > 0 and #odd < 100 do
  local id = rcall('LINDEX', KEYS[1], -1)
  if not id then break end
  local job, text, attempts = read_job(prefix, ARGV[2], id)
  if job and job.bytes > most_bytes and not alone then break end
  local payloads = job and payloads_of(job)
  if payloads then
    rcall('RPOPLPUSH', KEYS[1], KEYS[2])
    rcall('SET', queue .. id .. ':lock', token, 'PX', lock_ms)
    rcall('HSET', queue .. id, 'processedOn', string.format('%.0f', now))
    result[#result+1] = { id, text, attempts, payloads }
    most, most_bytes, alone = most - 1, most_bytes - job.bytes, false
  else
    rcall('RPOP', KEYS[1])
    fail_job(prefix, ARGV[2], id, job and 'a payload of it is no string' or text, now)
  end
end
result[1] = rcall('LLEN', KEYS[1])
if result[1] > 0 then rcall('ZADD', KEYS[5], 0, '0') end
local first = rcall('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then result[2] = math.max(0, math.floor(tonumber(first[2]) / 4096) - now) end
return result
`;
