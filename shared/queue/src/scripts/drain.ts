import { breaker } from './breaker.ts';
import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * While the breaker is open: sends what waits in the export queue and in the class queues to the spill queue, one
 * job per batch, lowest class first. What came from the dlq's disk is given back to it instead. A payload that was
 * in the export queue gets a new key, so that an exporter that wakes up late finds nothing.
 *
 * KEYS  1 depth  2 books  3 replay outcomes
 * ARGV  1 prefix  2 now in ms  3 job options (JSON)  4 most jobs in one call
 * Gives { jobs taken, items spilled ×3 by class, a line for each odd job that went to a failed set … }; nothing when the breaker
 * is not open
 */
export const drain = `#!lua flags=allow-oom
${prelude}
${breaker}
${jobs}
local prefix, now, opts, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = rcall('HMGET', prefix .. ':breaker', 'state', 'reason')
if held[1] ~= 'open' then return { 0, 0, 0, 0 } end
expect('HLEN', { KEYS[1], KEYS[2], prefix .. ':spill:meta' })
expect('LLEN', { KEYS[3], prefix .. ':spill:wait', prefix .. ':export:wait' })
for _, class in ipairs({ 'critical', 'high', 'normal' }) do
  expect('LLEN', { prefix .. ':' .. class .. ':wait', prefix .. ':replay-' .. class .. ':wait' })
end
expect('ZCARD', { prefix .. ':spill:marker', prefix .. ':export:delayed' })
local reason = 'breaker:' .. (held[2] or 'failures')
local classes = { 'critical', 'high', 'normal' }
local index = { critical = 1, high = 2, normal = 3 }
local taken, items = 0, { 0, 0, 0 }

local function give_back(job, stage)
  for _, batch in ipairs(job.batches) do
    if rcall('UNLINK', prefix .. ':payload:' .. batch.key) == 1 then
      count(stage .. job.class, -1, -batch.items, -batch.bytes)
      rcall('RPUSH', KEYS[3], 'returned ' .. batch.key)
    end
  end
end

local function spill(job, stage, rename, attempts)
  for _, batch in ipairs(job.batches) do
    local payload = prefix .. ':payload:' .. batch.key
    if rcall('EXISTS', payload) == 1 then
      local key = batch.key
      if rename then
        key = string.find(key, '-', 1, true) and key .. 's' or key .. '-s'
        rcall('RENAME', payload, prefix .. ':payload:' .. key)
      end
      local piece = { key = key, items = batch.items, bytes = batch.bytes, receivedAt = batch.receivedAt }
      local data = cjson.encode({ signal = job.signal, class = job.class, origin = 'live', encoding = job.encoding,
        items = batch.items, bytes = batch.bytes, batches = { piece }, reason = reason, attempts = attempts })
      put_job(prefix, 'spill', key, job.signal, data, opts, now, 'LPUSH')
      count(stage .. job.class, -1, -batch.items, -batch.bytes)
      count('spill:' .. job.class, 1, batch.items, batch.bytes)
      items[index[job.class]] = items[index[job.class]] + batch.items
    end
  end
end

-- The id has left its list.
local function take(queue, id, stage, replay_stage, rename)
  taken = taken + 1
  local job, why, attempts = read_job(prefix, queue, id)
  if not job then return fail_job(prefix, queue, id, why, now) end
  rcall('UNLINK', prefix .. ':' .. queue .. ':' .. id)
  if job.origin == 'replay' then give_back(job, replay_stage) else spill(job, stage, rename, attempts) end
end

local export = prefix .. ':export:'
while taken < most do
  local id = rcall('RPOP', export .. 'wait')
  if not id then break end
  take('export', id, 'export:', 'replay-export:', true)
end
while taken < most do
  local id = rcall('ZPOPMIN', export .. 'delayed')[1]
  if not id then break end
  take('export', id, 'export:', 'replay-export:', true)
end
for i = 3, 1, -1 do
  for _, origin in ipairs({ '', 'replay-' }) do
    local queue = origin .. classes[i]
    while taken < most do
      local id = rcall('RPOP', prefix .. ':' .. queue .. ':wait')
      if not id then break end
      take(queue, id, 'queued:', 'replay:', false)
    end
  end
end
write_depth(KEYS[1])
for i, class in ipairs(classes) do
  if items[i] > 0 then add(KEYS[2], 'spilled:' .. class .. ':' .. reason, items[i]) end
end
if items[1] + items[2] + items[3] > 0 then wake_workers(prefix, 'spill') end
local result = { taken, items[1], items[2], items[3] }
for _, line in ipairs(odd) do result[#result+1] = line end
return result
`;
