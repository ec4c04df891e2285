import { breaker } from './breaker.ts';
import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * Moves a weighted window of batches from the class queues to the export queue. Atomic: one scheduler or several, killed at any
 * time, give the same order. Payloads stay where they are.
 *
 * The weighted pick is start-time fair queueing, the exact form of deficit round robin: each class has a finish tag, the pick
 * is the waiting class with the lowest start tag max(virtual time, finish), and serving n items moves its finish by n / weight.
 * While all classes wait, shares differ from the weights by at most one batch over any window; a class that was idle neither
 * saves credit nor loses its turn. Tags are integers (n × the product of the other weights), so no rounding errors accumulate.
 * (Goyal, Vin, Cheng: Start-time Fair Queueing, 1996.)
 *
 * While live and replayed batches both wait, they alternate by slots of Redis' clock.
 *
 * KEYS  1 depth  2 scheduler state
 * ARGV  1 prefix  2 window in batches  3 window in bytes  4 merge up to this many bytes  5 job options (JSON)
 *       6..8 weights of critical, high, normal  9 maximum picks  10 length of a slot in ms
 * Gives { jobs moved, items moved ×3 by class, batches waiting ×3 live, ×3 replay, room left in batches for the signal that has
 *   most, the worst of the breakers: 0 closed, 1 open, 2 half-open; ms until the earliest probe if one is open; 1 if there
 *   may be more to move; then a line for each odd job that went to a failed set }
 */
export const move = `#!lua flags=allow-oom
${prelude}
${breaker}
${jobs}
local prefix, window, window_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local merge_bytes, opts, max_picks, slot_ms = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[9]), tonumber(ARGV[10])
local merge_batches = 512
local weights = { tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]) }
local product = weights[1] * weights[2] * weights[3]
local now = clock()
local export = prefix .. ':export:'
expect('HLEN', { KEYS[1], KEYS[2], prefix .. ':signals', export .. 'meta' })
for _, s in ipairs(signals) do expect('HLEN', { breaker_key(prefix, s) }) end
expect('ZCARD', { export .. 'marker' })
local outstanding = ask('LLEN', export .. 'wait') + ask('LLEN', export .. 'active') + ask('ZCARD', export .. 'delayed')
local fields = { 'aside' }
for _, s in ipairs(signals) do
  for _, what in ipairs({ 'waiting:', 'out:', 'bytes:' }) do fields[#fields+1] = what .. s end
end
local told = rcall('HMGET', prefix .. ':signals', unpack(fields))
-- With a wrong count of 0 nobody would look there, so look while nothing is in flight, too.
local asides, found_aside = tonumber(told[1]) or 0, 0
local looks_aside = asides ~= 0 or outstanding == 0
local groups = {
  { origin = 'live', queue = '', from = 'queued:', to = 'export:', waiting = {}, aside = {}, blocked = {}, total = 0 },
  { origin = 'replay', queue = 'replay-', from = 'replay:', to = 'replay-export:', waiting = {}, aside = {}, blocked = {}, total = 0 },
}
for _, group in ipairs(groups) do
  for i, c in ipairs(classes) do
    group.waiting[i] = ask('LLEN', prefix .. ':' .. group.queue .. c .. ':wait')
    group.aside[i] = {}
    for _, s in ipairs(signals) do
      local n = looks_aside and ask('LLEN', prefix .. ':' .. group.queue .. c .. ':aside:' .. s) or 0
      found_aside = found_aside + n
      group.aside[i][s] = n
      group.waiting[i] = group.waiting[i] + n
    end
    group.total = group.total + group.waiting[i]
    -- Paused by BullMQ's flag: the class keeps its jobs.
    if group.waiting[i] > 0 and is_paused(prefix, group.queue .. c) then group.blocked[i] = true end
  end
  local tags = rcall('HMGET', KEYS[2], group.origin .. ':virtual', group.origin .. ':critical', group.origin .. ':high', group.origin .. ':normal')
  group.virtual = tonumber(tags[1]) or 0
  group.finish = { tonumber(tags[2]) or 0, tonumber(tags[3]) or 0, tonumber(tags[4]) or 0 }
end
if looks_aside then tell('aside', found_aside - asides) end
-- Tags are in units of the weights with which they were computed. With new weights, each class keeps its lead in items.
local weighed_by = ARGV[6] .. ':' .. ARGV[7] .. ':' .. ARGV[8]
local before = rcall('HGET', KEYS[2], 'weights')
local a, b, c = string.match(before or '', '(%d+):(%d+):(%d+)')
if a and before ~= weighed_by then
  local old = { tonumber(a), tonumber(b), tonumber(c) }
  for _, group in ipairs(groups) do
    for i = 1, 3 do
      local lead = math.max(0, group.finish[i] - group.virtual) * old[i] / (old[1] * old[2] * old[3])
      group.finish[i] = math.floor(lead * product / weights[i])
    end
    group.virtual, group.dirty = 0, true
  end
end

-- Each signal has its own window. Breaker open: nothing is moved. Half-open: one probe, alone and unmerged.
local paused = rcall('HGET', export .. 'meta', 'paused')
local of, first_probe, worst = {}, nil, 0
for n, s in ipairs(signals) do
  local state, retry_at = breaker_step(prefix, s, now)
  local mine = { waiting = tonumber(told[3*n-1]) or 0, jobs = window - (tonumber(told[3*n]) or 0),
    bytes = window_bytes - (tonumber(told[3*n+1]) or 0), merge = merge_bytes }
  if outstanding == 0 then
    -- Resets counts that are wrong, for example after manual deletions, whenever nothing is in flight.
    if told[3*n] and told[3*n] ~= '0' then rcall('HDEL', prefix .. ':signals', fields[3*n], fields[3*n+1]) end
    mine.jobs, mine.bytes = window, window_bytes
  end
  if state == 'half_open' then mine.jobs, mine.merge = mine.jobs - window + 1, 0 end
  if state == 'open' or paused then mine.jobs = 0 end
  if state == 'open' and (not first_probe or retry_at < first_probe) then first_probe = retry_at end
  worst = math.max(worst, ({ closed = 0, half_open = 1, open = 2 })[state] or 0)
  of[s] = mine
end
local function may_go(s) return of[s].jobs > 0 and of[s].bytes > 0 end
-- Whether jobs of other signals may be waiting behind one that may not go now.
local function others_wait()
  for _, s in ipairs(signals) do
    if of[s].waiting > 0 and may_go(s) then return true end
  end
  return false
end

-- Request bodies concatenate, except profiles: each refers to the dictionary of its own request.
local function mergeable(a, b)
  return a.signal == b.signal and a.signal ~= 'profiles' and a.encoding == b.encoding
    and (a.encoding == 'identity' or a.encoding == 'gzip')
    and (a.attempts or 0) == 0 and (b.attempts or 0) == 0
end

-- A job without payloads is a copy, or was settled in a step that Redis has lost. Moving it would count batches that are not
-- there.
local settled_before = 'none of its payloads is in Redis; the job is removed'
local function read(group, i, id)
  local job, text = read_job(prefix, group.queue .. classes[i], id)
  if not job then return nil, text end
  if job.class ~= classes[i] or job.origin ~= group.origin then return nil, 'data.class or data.origin is not that of its queue' end
  for _, batch in ipairs(job.batches) do
    if is_held(prefix .. ':payload:' .. batch.key) then return job, text end
  end
  return nil, settled_before
end

local picks = 0

-- The list with the next job of class i that may go; nil if there is none. Jobs of a signal that may not go are set aside, so
-- that they do not block others; jobs that were set aside are older than those that wait.
local function source_of(group, i)
  local name = group.queue .. classes[i]
  local queue = prefix .. ':' .. name .. ':'
  for _, s in ipairs(signals) do
    if group.aside[i][s] > 0 and may_go(s) then return queue .. 'aside:' .. s, s end
  end
  while picks <= max_picks do
    local id = rcall('LINDEX', queue .. 'wait', -1)
    if not id then return nil end
    local s = signal_of(prefix, name, id)
    if not s then return queue .. 'wait', nil end -- none of the pipeline's jobs: it is put away there
    if may_go(s) then return queue .. 'wait', s end
    if not others_wait() then return nil end
    local set_aside = redis.pcall('RPOPLPUSH', queue .. 'wait', queue .. 'aside:' .. s)
    if type(set_aside) == 'table' then
      odd[#odd+1] = queue .. 'aside:' .. s .. ': ' .. set_aside.err
      return nil
    end
    group.aside[i][s] = group.aside[i][s] + 1
    tell('aside', 1)
    picks = picks + 1
  end
end

-- Takes the oldest job of class i that may go and, under backlog, those behind it that may share its request.
local function take(group, i, wait, signal)
  local name = group.queue .. classes[i]
  local queue = prefix .. ':' .. name .. ':'
  local is_aside = signal and wait ~= queue .. 'wait'
  -- Reads the next ids before popping them: few at first, more as more of them are taken.
  local ids, next_at, popped = {}, 0, 0
  local function peek()
    if next_at == 0 then
      local most = math.max(1, math.min(128, 2 * popped))
      ids = rcall('LRANGE', wait, -(popped + most), -(popped + 1))
      next_at = #ids
    end
    return ids[next_at]
  end
  -- An odd job is not subtracted from its signal's count, since as a rule it was never added. If it was, the count is reset
  -- once nothing waits.
  local function pop(job)
    next_at, popped = next_at - 1, popped + 1
    group.waiting[i] = group.waiting[i] - 1
    group.total = group.total - 1
    if is_aside then
      group.aside[i][signal] = group.aside[i][signal] - 1
      tell('aside', -1)
    end
    if job then
      of[job.signal].waiting = of[job.signal].waiting - 1
      tell('waiting:' .. job.signal, -1)
    end
  end
  local function put_away(id, why)
    if why ~= settled_before then return fail_job(prefix, name, id, why, now) end
    rcall('UNLINK', queue .. id)
    odd[#odd+1] = name .. ' ' .. id .. ': ' .. why
  end
  local first = peek()
  if not first then return nil end
  local job, text = read(group, i, first)
  pop(job)
  if not job then
    rcall('RPOP', wait)
    put_away(first, text)
    return nil
  end
  local merge = of[job.signal].merge
  local merged, put = {}, {}
  while group.waiting[i] > 0 and job.bytes < merge and #job.batches < merge_batches do
    local next_id = peek()
    if not next_id then break end
    local candidate, why = read(group, i, next_id)
    if candidate and (not mergeable(job, candidate) or job.bytes + candidate.bytes > merge
      or #job.batches + #candidate.batches > merge_batches) then break end
    pop(candidate)
    if candidate then
      for _, batch in ipairs(candidate.batches) do job.batches[#job.batches+1] = batch end
      job.items = job.items + candidate.items
      job.bytes = job.bytes + candidate.bytes
      merged[#merged+1] = queue .. next_id
    else
      put[#put+1] = { next_id, why }
    end
  end
  rcall('RPOP', wait, popped)
  unlink_all(merged)
  for _, each in ipairs(put) do put_away(each[1], each[2]) end
  if #merged > 0 then text = cjson.encode(job) end
  local target = export .. first
  if rcall('EXISTS', target) == 1 then
    -- Cannot happen while keys change with every hand-over; if it does, the batch waits rather than vanishes.
    rcall('HSET', queue .. first, 'data', text)
    rcall('LPUSH', wait, first)
    tell('waiting:' .. job.signal, 1)
    if is_aside then tell('aside', 1) end
    return nil
  end
  rcall('RENAME', queue .. first, target)
  rcall('HSET', target, 'data', text, 'opts', opts)
  count_export(prefix, first, job.signal, job.bytes)
  rcall('LPUSH', export .. 'wait', first)
  return job
end

local moved, items = 0, { 0, 0, 0 }
local slot = math.floor(now / slot_ms) % 2 + 1
local function best_of(group)
  local best, start
  for i = 1, 3 do
    if group.waiting[i] > 0 and not group.blocked[i] then
      local tag = math.max(group.virtual, group.finish[i])
      if not best or tag < start then best, start = i, tag end
    end
  end
  return best, start
end
while picks < max_picks and not paused do
  local group = groups[slot]
  local best, start = best_of(group)
  if not best then
    group = groups[3 - slot]
    best, start = best_of(group)
  end
  if not best then break end
  picks = picks + 1
  local wait, signal = source_of(group, best)
  if not wait then
    group.blocked[best] = true
  else
    local job = take(group, best, wait, signal)
    if job then
      group.virtual = start
      group.finish[best] = start + job.items * product / weights[best]
      group.dirty = true
      count(group.from .. classes[best], -#job.batches, -job.items, -job.bytes)
      count(group.to .. classes[best], #job.batches, job.items, job.bytes)
      moved, items[best] = moved + 1, items[best] + job.items
      if of[job.signal] then
        of[job.signal].jobs, of[job.signal].bytes = of[job.signal].jobs - 1, of[job.signal].bytes - job.bytes
      end
    end
  end
end
if groups[1].total + groups[2].total == 0 then
  for _, s in ipairs(signals) do
    if of[s].waiting ~= 0 then tell('waiting:' .. s, -of[s].waiting) end
  end
end
write_tally(prefix)

if moved > 0 then
  write_depth(KEYS[1])
  if before ~= weighed_by then rcall('HSET', KEYS[2], 'weights', weighed_by) end
  for _, group in ipairs(groups) do
    if group.dirty then
      -- Keeps the numbers small and thus exact; only their differences matter.
      local base = group.virtual > 1e14 and group.virtual or 0
      rcall('HSET', KEYS[2], group.origin .. ':virtual', num(group.virtual - base),
        group.origin .. ':critical', num(math.max(0, group.finish[1] - base)),
        group.origin .. ':high', num(math.max(0, group.finish[2] - base)),
        group.origin .. ':normal', num(math.max(0, group.finish[3] - base)))
    end
  end
  add(KEYS[2], 'decisions', moved)
  rcall('HSET', KEYS[2], 'slot', groups[slot].origin)
  for i, c in ipairs(classes) do
    if items[i] > 0 then add(KEYS[2], 'moved:' .. c, items[i]) end
  end
  wake_workers(prefix, 'export')
end
local live, replay = groups[1].waiting, groups[2].waiting
local room = 0
for _, s in ipairs(signals) do room = math.max(room, of[s].jobs) end
local result = { moved, items[1], items[2], items[3], live[1], live[2], live[3], replay[1], replay[2], replay[3], room,
  ({ [0] = 0, [1] = 2, [2] = 1 })[worst], first_probe and math.max(0, first_probe - now) or 0, picks >= max_picks and 1 or 0 }
for _, line in ipairs(odd) do result[#result+1] = line end
return result
`;
