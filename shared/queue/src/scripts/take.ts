import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * Takes jobs from a queue's wait list for a consumer: what BullMQ's moveToActive does for one job, for several at once and with
 * their payloads, so that a batch costs its exporter one round trip instead of five. A job is locked in the step that makes it
 * active; an active job without a lock belongs to a consumer that has died, and is requeued here at once.
 *
 * KEYS  1 wait  2 active  3 delayed  4 meta  5 marker
 * ARGV  1 prefix  2 queue  3 lock token  4 lock in ms  5 maximum jobs  6 maximum bytes  7 whether one larger job may pass
 *       8 whether to look for jobs of consumers that have died
 *       then per signal with limits of its own: name, maximum jobs, maximum bytes, whether one larger job may pass
 * Gives { jobs that still wait and may be sent, ms until the next delayed job or -1, how many of those this consumer has no
 *   room for now, a line for each odd job that went to the failed set, 1 if batches wait in a class queue, jobs: { id, data,
 *   attempts, payloads, epoch of the breaker } … }
 */
export const take = `#!lua flags=allow-oom
${prelude}
${jobs}
local prefix, token, lock_ms = ARGV[1], ARGV[3], ARGV[4]
expect('LLEN', { KEYS[1], KEYS[2] })
expect('ZCARD', { KEYS[3], KEYS[5] })
expect('HLEN', { prefix .. ':signals' })
for _, signal in ipairs(signals) do expect('HLEN', { prefix .. ':breaker:' .. signal }) end
local most, most_bytes, alone = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local queue = prefix .. ':' .. ARGV[2] .. ':'
local now = clock()
if ARGV[8] == '1' then
  for _, id in ipairs(rcall('LRANGE', KEYS[2], 0, -1)) do
    if rcall('EXISTS', queue .. id .. ':lock') == 0 then
      rcall('LREM', KEYS[2], 1, id)
      rcall('RPUSH', KEYS[1], id)
    end
  end
end
if rcall('HGET', KEYS[4], 'paused') then return { 0, -1, 0, odd, 0 } end
-- BullMQ's score of a delayed job: its time in ms, times 4096.
local function make_due(id)
  rcall('ZREM', KEYS[3], id)
  local known = redis.pcall('HLEN', queue .. id)
  if type(known) == 'table' then
    fail_job(prefix, ARGV[2], id, 'its key is no hash', now)
  elseif known > 0 then
    rcall('LPUSH', KEYS[1], id)
    rcall('HSET', queue .. id, 'delay', 0)
  end
end
local due = rcall('ZRANGEBYSCORE', KEYS[3], 0, string.format('%.0f', (now + 1) * 4096 - 1), 'LIMIT', 0, 1000)
for _, id in ipairs(due) do make_due(id) end
-- A delay that began in the future: the clock was set back since, and the job would wait for as much longer.
for _ = 1, 1000 do
  local last = rcall('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')
  local delay = last[1] and tonumber(redis.pcall('HGET', queue .. last[1], 'delay') or nil)
  if not delay or tonumber(last[2]) / 4096 - delay <= now + 1000 then break end
  make_due(last[1])
end
local result = { 0, -1, 0, odd, 0 }
-- Payloads by batch; nothing where a batch was settled or handed over already.
local function payloads_of(job)
  local keys, payloads = {}, {}
  for i, batch in ipairs(job.batches) do keys[i] = prefix .. ':payload:' .. batch.key end
  for from = 1, #keys, 1000 do
    local some = rcall('MGET', unpack(keys, from, math.min(from + 999, #keys)))
    for i, payload in ipairs(some) do payloads[from + i - 1] = payload end
  end
  -- MGET returns nil for keys that are not strings.
  for i, payload in ipairs(payloads) do
    if not payload and type(redis.pcall('GET', keys[i])) == 'table' then return nil end
  end
  return payloads
end
-- Limits of a signal, and the epoch of its breaker; nil while that is open.
local rooms, others = {}, {}
for i = 9, #ARGV, 4 do
  rooms[ARGV[i]] = { jobs = tonumber(ARGV[i+1]), bytes = tonumber(ARGV[i+2]), alone = ARGV[i+3] == '1' }
end
local function room_of(signal)
  local room = rooms[signal] or { jobs = most, bytes = most_bytes, alone = alone }
  rooms[signal] = room
  if not room.epoch then
    local held = ARGV[2] == 'export' and rcall('HMGET', prefix .. ':breaker:' .. signal, 'state', 'epoch') or {}
    room.epoch = held[2] or '0'
    room.open = held[1] == 'open'
  end
  return room
end
-- Whether jobs of other signals may be waiting behind one that may not go now.
local function others_wait(signal)
  if others[signal] == nil then
    others[signal] = false
    for name, room in pairs(rooms) do
      if name ~= signal and room.jobs > 0 and (tonumber(rcall('HGET', prefix .. ':signals', 'out:' .. name)) or 0) > 0 then
        others[signal] = true
      end
    end
  end
  return others[signal]
end
local passed, held_back, all_wait = 0, 0, false
while most > 0 and #odd < 100 do
  local id = rcall('LINDEX', KEYS[1], -1 - passed)
  if not id then break end
  local job, text, attempts = read_job(prefix, ARGV[2], id)
  local room = job and room_of(job.signal)
  local fits = job and (job.bytes <= most_bytes and job.bytes <= room.bytes or room.alone)
  if job and (room.open or room.jobs <= 0 or not fits) then
    passed = passed + 1
    if not room.open then held_back = held_back + 1 end
    all_wait = ARGV[2] ~= 'export' or not others_wait(job.signal)
    if all_wait then break end
  else
    rcall('LREM', KEYS[1], -1, id)
    local payloads = job and payloads_of(job)
    if payloads then
      rcall('LPUSH', KEYS[2], id)
      rcall('SET', queue .. id .. ':lock', token, 'PX', lock_ms)
      rcall('HSET', queue .. id, 'processedOn', string.format('%.0f', now))
      result[#result+1] = { id, text, attempts, payloads, room.epoch }
      most, most_bytes, alone = most - 1, most_bytes - job.bytes, false
      room.jobs, room.bytes, room.alone = room.jobs - 1, room.bytes - job.bytes, false
    else
      fail_job(prefix, ARGV[2], id, job and 'a payload of it is no string' or text, now)
    end
  end
end
result[1] = rcall('LLEN', KEYS[1])
-- Jobs that wait only for a breaker need no wake-up: its change will wake consumers.
if result[1] > 0 and (held_back > 0 or passed == 0) then rcall('ZADD', KEYS[5], 0, '0') end
result[1], result[3] = all_wait and held_back or result[1] - passed + held_back, held_back
if #result > 5 and is_queued(prefix) then result[5] = 1 end
write_tally(prefix)
local first = rcall('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then result[2] = math.max(0, math.floor(tonumber(first[2]) / 4096) - now) end
return result
`;
