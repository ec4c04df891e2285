import { breaker } from './breaker.ts';
import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * While the breaker of a signal is open: spills its batches from the export queue and the class queues, one job per batch,
 * lowest class first. Replayed batches are returned to the dlq instead, as `failed` after an attempt, so that a batch that
 * itself causes the failures is not the next probe too. A payload from the export queue gets a new key, so that an exporter
 * that was frozen meanwhile finds nothing.
 *
 * KEYS  1 depth  2 books  3 replay outcomes
 * ARGV  1 prefix  2 now in ms  3 job options (JSON)  4 maximum number of jobs
 * Gives { jobs taken, items spilled ×3 by class, a line for each odd job that went to a failed set … }; nothing if no breaker
 * is open
 */
export const drain = `#!lua flags=allow-oom
${prelude}
${breaker}
${jobs}
local prefix, now, opts, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local open, any = {}, false
for _, signal in ipairs(signals) do
  local held = rcall('HMGET', breaker_key(prefix, signal), 'state', 'reason', 'said')
  if held[1] == 'open' then
    open[signal] = { reason = 'breaker:' .. (held[2] or 'failures'), said = held[3] or '' }
    any = true
  end
end
if not any then return { 0, 0, 0, 0 } end
expect('HLEN', { KEYS[1], KEYS[2], prefix .. ':spill:meta', prefix .. ':signals' })
expect('LLEN', { KEYS[3], prefix .. ':spill:wait', prefix .. ':export:wait' })
for _, class in ipairs(classes) do
  for _, queue in ipairs({ prefix .. ':' .. class, prefix .. ':replay-' .. class }) do
    expect('LLEN', { queue .. ':wait' })
    for _, signal in ipairs(signals) do expect('LLEN', { queue .. ':aside:' .. signal }) end
  end
end
expect('ZCARD', { prefix .. ':spill:marker', prefix .. ':export:delayed' })
local spilled = {}
local taken, items = 0, { critical = 0, high = 0, normal = 0 }

local function give_back(job, stage, attempts)
  for _, batch in ipairs(job.batches) do
    if rcall('UNLINK', prefix .. ':payload:' .. batch.key) == 1 then
      count(stage, -1, -batch.items, -batch.bytes)
      local line = attempts == 0 and 'returned ' .. batch.key
        or 'failed ' .. batch.key .. ' ' .. num(attempts) .. ' ' .. open[job.signal].said
      rcall('RPUSH', KEYS[3], line)
    end
  end
end

local function spill(job, stage, attempts, rename)
  local reason = open[job.signal].reason
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
        items = batch.items, bytes = batch.bytes, batches = { piece }, reason = reason,
        attempts = attempts + (job.attempts or 0) })
      put_job(prefix, 'spill', key, job.signal, data, opts, now, 'LPUSH')
      count(stage, -1, -batch.items, -batch.bytes)
      count('spill:' .. job.class, 1, batch.items, batch.bytes)
      items[job.class] = items[job.class] + batch.items
      local field = 'spilled:' .. job.class .. ':' .. reason
      spilled[field] = (spilled[field] or 0) + batch.items
    end
  end
end

-- Jobs that are not the pipeline's go to the failed set.
local function may_take(queue, id)
  local signal = signal_of(prefix, queue, id)
  return not signal or open[signal]
end

-- Spills or returns a job whose id has been removed from its list.
local function take(queue, id)
  taken = taken + 1
  local job, why, attempts = read_job(prefix, queue, id)
  if not job then return fail_job(prefix, queue, id, why, now) end
  if queue == 'export' then uncount_export(prefix, id) else tell('waiting:' .. job.signal, -1) end
  rcall('UNLINK', prefix .. ':' .. queue .. ':' .. id)
  local give = job.origin == 'replay' and give_back or spill
  give(job, stage_of(queue, job), attempts, queue == 'export')
end

-- The export queue is no longer than its window; jobs of other signals stay where they are.
local export = prefix .. ':export:'
local wait = rcall('LRANGE', export .. 'wait', 0, -1)
for i = #wait, 1, -1 do
  if taken < most and may_take('export', wait[i]) then
    rcall('LREM', export .. 'wait', -1, wait[i])
    take('export', wait[i])
  end
end
for _, id in ipairs(rcall('ZRANGE', export .. 'delayed', 0, -1)) do
  if taken < most and may_take('export', id) then
    rcall('ZREM', export .. 'delayed', id)
    take('export', id)
  end
end
for i = 3, 1, -1 do
  for _, origin in ipairs({ '', 'replay-' }) do
    local queue = origin .. classes[i]
    for _, signal in ipairs(signals) do
      while open[signal] and taken < most do
        local id = rcall('RPOP', prefix .. ':' .. queue .. ':aside:' .. signal)
        if not id then break end
        tell('aside', -1)
        take(queue, id)
      end
    end
    -- Jobs behind the first one of a signal that may go are left to the move, which sets them aside.
    while taken < most do
      local id = rcall('LINDEX', prefix .. ':' .. queue .. ':wait', -1)
      if not id or not may_take(queue, id) then break end
      rcall('RPOP', prefix .. ':' .. queue .. ':wait')
      take(queue, id)
    end
  end
end
write_depth(KEYS[1])
write_tally(prefix)
for field, n in pairs(spilled) do add(KEYS[2], field, n) end
if items.critical + items.high + items.normal > 0 then wake_workers(prefix, 'spill') end
local result = { taken, items.critical, items.high, items.normal }
for _, line in ipairs(odd) do result[#result+1] = line end
return result
`;
