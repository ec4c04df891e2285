import { CLAIM_ARGS, claims } from '@nrdot/key-budget';
import { prelude } from './prelude.ts';

/**
 * Enqueues batches whose payloads were SET with a TTL on the same connection just before. The script adds the job and removes
 * the TTL atomically, so that a kill in between leaves only a payload that expires.
 *
 * A batch goes to its class queue, or straight to the spill queue while the breaker is open or the queue is above the threshold
 * of its class: `spill_at` for normal, one and two thirds of the way from there to full for high and critical, each until the
 * fill has fallen by the hysteresis. A class whose own queue has a limit also spills from \`spill_at\` of that limit on. A
 * batch is rejected only if the queue is full, and one replayed batch at a time not even then.
 *
 * A live batch bypasses the scheduler if that would have no choice anyway: nothing waits in any class or for an exporter, the
 * breaker is closed and the window has room. In a process that has an exporter with a free slot, the job becomes active and
 * locked at once, as if it had been enqueued, moved and taken: one round trip instead of three. If exporters are other
 * processes, it goes to their queue, as if it had been moved, without waking the scheduler. The tags of the weighted pick do
 * not change: they compare waiting classes, and none was waiting.
 *
 * KEYS  1 depth  2 books  3 wake  4 scheduler  5 replay outcomes  6 how many of those were forgotten
 * ARGV  1 prefix  2 now in ms  3 capacity in bytes  4 capacity in items  5 job options (JSON)  6 spill_at (0 to 1)
 *       7 hysteresis (0 to 1)  8..13 limits in bytes and items of the queues of critical, high and normal, 0 for none
 *       14 lock token of the exporter with a reserved slot, empty for none  15 lock in ms  16, 17 window in batches and bytes
 *       18 index of the first replay outcome that the dlq has not read  19 whether a batch may bypass the scheduler to exporters
 *       of other processes  20 how many batches follow
 *       then per batch: key, class, origin, items, bytes, job data (JSON), job name, size of the group that begins here (0: the
 *       group goes on), and the number of the group's claim (0: none); then the claims
 * A claim without a batch follows a batch without a key. A group with a claim is atomic: what its claim relies on must hold,
 * and all its payloads must be there. Claims after a refused one were computed from changes that did not happen, and are
 * refused too.
 * Gives per batch: 1 queued, 2 held already, 3 payload expired or lost, 4 queue full (the payload is removed), 5 spilled,
 *   6 taken, 7 claim refused (the payload is removed), 8 moved; then the answer to each claim; then, for a taken batch, which
 *   is always alone, the epoch of its breaker
 */
export const enqueue = `${prelude}
local prefix, now, max_bytes, max_items, opts = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
${claims}
local spill_at, hysteresis = tonumber(ARGV[6]), tonumber(ARGV[7])
expect('HLEN', { KEYS[2], prefix .. ':spill:meta', prefix .. ':export:meta', prefix .. ':signals' })
for _, signal in ipairs(signals) do expect('HLEN', { prefix .. ':breaker:' .. signal }) end
expect('ZCARD', { KEYS[3], prefix .. ':spill:marker', prefix .. ':export:marker' })
expect('LLEN', { prefix .. ':critical:wait', prefix .. ':high:wait', prefix .. ':normal:wait', prefix .. ':replay-critical:wait',
  prefix .. ':replay-high:wait', prefix .. ':replay-normal:wait', prefix .. ':spill:wait', prefix .. ':export:wait',
  prefix .. ':export:active' })
local own = {}
for i, class in ipairs(classes) do
  local limit = { bytes = tonumber(ARGV[6 + 2 * i]), items = tonumber(ARGV[7 + 2 * i]) }
  if limit.bytes > 0 or limit.items > 0 then own[class] = limit end
end
local total = rcall('HMGET', KEYS[1], 'total:bytes', 'total:items')
local held_bytes, held_items = tonumber(total[1]) or 0, tonumber(total[2]) or 0
local breakers = {}
local function breaker_of(signal)
  local known = breakers[signal]
  if not known then
    local held = rcall('HMGET', prefix .. ':breaker:' .. signal, 'state', 'reason', 'epoch')
    known = { state = held[1] or 'closed', broken = held[1] == 'open' and ('breaker:' .. (held[2] or 'failures')), epoch = held[3] or '0' }
    breakers[signal] = known
  end
  return known
end
local flags = rcall('HMGET', KEYS[4], 'spilling:critical', 'spilling:high', 'spilling:normal')
local spilling = { critical = flags[1] == '1', high = flags[2] == '1', normal = flags[3] == '1' }
local step = { critical = 2, high = 1, normal = 0 }

local function own_fill(class)
  local limit = own[class]
  if not limit then return 0 end
  local held = rcall('HMGET', KEYS[1], 'queued:' .. class .. ':bytes', 'queued:' .. class .. ':items')
  local bytes = (tonumber(held[1]) or 0) + (depth['queued:' .. class .. ':bytes'] or 0)
  local items = (tonumber(held[2]) or 0) + (depth['queued:' .. class .. ':items'] or 0)
  return math.max(limit.bytes > 0 and bytes / limit.bytes or 0, limit.items > 0 and items / limit.items or 0)
end

local function must_spill(class, signal)
  local broken = breaker_of(signal).broken
  if broken then return broken end
  local fill = math.max(held_bytes / max_bytes, held_items / max_items)
  local slack = spilling[class] and hysteresis or 0
  local threshold = spill_at + (1 - spill_at) * step[class] / 3
  local now_spilling = fill >= threshold - slack or own_fill(class) >= spill_at - slack
  if now_spilling ~= spilling[class] then
    spilling[class] = now_spilling
    rcall('HSET', KEYS[4], 'spilling:' .. class, now_spilling and '1' or '0')
  end
  return now_spilling and 'fill'
end

local token, past_scheduler = ARGV[14], ARGV[19] == '1'
local export = prefix .. ':export:'
-- Whether the scheduler would move it at once, with nothing before or beside it.
local function may_go_at_once(signal, class)
  if token == '' and not past_scheduler or breaker_of(signal).state ~= 'closed' then return false end
  if rcall('EXISTS', export .. 'wait') > 0 or is_queued(prefix) then return false end
  if is_paused(prefix, 'export') or is_paused(prefix, class) then return false end
  if rcall('LLEN', export .. 'active') + rcall('ZCARD', export .. 'delayed') >= tonumber(ARGV[16]) then return false end
  local out = 0
  for _, held in ipairs(rcall('HMGET', KEYS[1], 'export:critical:bytes', 'export:high:bytes', 'export:normal:bytes',
    'replay-export:critical:bytes', 'replay-export:high:bytes', 'replay-export:normal:bytes')) do
    out = out + (tonumber(held) or 0)
  end
  return out < tonumber(ARGV[17])
end

-- Batches that an earlier run of the dlq replayed may have been delivered since this one read the outcomes.
local done
local function is_done(key)
  if not done then
    done = {}
    local base = tonumber(rcall('GET', KEYS[6])) or 0
    local unseen = math.max(0, tonumber(ARGV[18]) - base)
    if unseen > rcall('LLEN', KEYS[5]) then unseen = 0 end
    for _, line in ipairs(rcall('LRANGE', KEYS[5], unseen, -1)) do done[line] = true end
  end
  return done['done ' .. key]
end

-- One replayed batch at a time may exceed the capacity. Else a full Redis whose batches can only go to a full disk would keep
-- that from draining. One that the upstream has rejected takes its room until the disk has it.
local replayed
local function none_replayed()
  if replayed == nil then
    replayed = false
    for _, stage in ipairs({ 'replay', 'replay-export' }) do
      for _, class in ipairs(classes) do
        if (tonumber(rcall('HGET', KEYS[1], stage .. ':' .. class .. ':batches')) or 0) > 0 then replayed = true end
      end
    end
  end
  return not replayed
end

local taken_in
local results, accepted, queued, spilled, books = {}, 0, false, false, {}
local room, claimed, refused, answers = true, true, false, {}
local claims_at = 21 + 9 * tonumber(ARGV[20])
for i = 21, claims_at - 9, 9 do
  local group = tonumber(ARGV[i+7])
  if group > 0 then
    local group_items, group_bytes, all_there = 0, 0, true
    for j = i, i + 9 * (group - 1), 9 do
      group_items, group_bytes = group_items + tonumber(ARGV[j+3]), group_bytes + tonumber(ARGV[j+4])
      if ARGV[i+8] ~= '0' and ARGV[j] ~= '' and rcall('TTL', prefix .. ':payload:' .. ARGV[j]) < 0 then all_there = false end
    end
    room = held_bytes + group_bytes <= max_bytes and held_items + group_items <= max_items
      or ARGV[i+2] == 'replay' and held_bytes <= max_bytes and held_items <= max_items and none_replayed()
    claimed = true
    if ARGV[i+8] ~= '0' then
      local claim = claims_at + ${CLAIM_ARGS} * (tonumber(ARGV[i+8]) - 1)
      local answer = refused and { 'later' } or nil
      if not answer and room and all_there then
        answer = against(claim)
        if not answer then make_true(claim) end
        local kind = answer and answer[1] or 'kept'
        if kind == 'kept' or kind == 'keys' or kind == 'full' then
          answer = { kind, pipeline_state(tonumber(claim_arg(claim, 2))) }
        end
        claimed = kind == 'kept'
      else
        answer = answer or { 'later' }
        claimed = false
      end
      refused = refused or not claimed
      answers[#answers+1] = answer
    end
  end
  local key, class, origin, items, bytes = ARGV[i], ARGV[i+1], ARGV[i+2], tonumber(ARGV[i+3]), tonumber(ARGV[i+4])
  local payload = prefix .. ':payload:' .. key
  if key == '' then
    results[#results+1] = claimed and 1 or 7
  elseif not room then
    if rcall('TTL', payload) >= 0 then rcall('UNLINK', payload) end
    results[#results+1] = 4
  elseif not claimed then
    local ttl = rcall('TTL', payload)
    if ttl >= 0 then rcall('UNLINK', payload) end
    results[#results+1] = ttl == -2 and 3 or 7
  elseif origin == 'replay' and is_done(key) then
    if rcall('TTL', payload) >= 0 then rcall('UNLINK', payload) end
    results[#results+1] = 2
  elseif rcall('PERSIST', payload) == 1 then
    local reason = origin == 'live' and must_spill(class, ARGV[i+6])
    if reason then
      local data = string.sub(ARGV[i+5], 1, -2) .. ',"reason":"' .. reason .. '"}'
      put_job(prefix, 'spill', key, ARGV[i+6], data, opts, now, 'LPUSH')
      count('spill:' .. class, 1, items, bytes)
      local field = 'spilled:' .. class .. ':' .. reason
      books[field] = (books[field] or 0) + items
      spilled = true
      results[#results+1] = 5
    elseif origin == 'live' and may_go_at_once(ARGV[i+6], class)
      and put_job(prefix, 'export', key, ARGV[i+6], ARGV[i+5], opts, now, 'LPUSH', token ~= '' and 'active' or 'wait') then
      if token ~= '' then
        rcall('SET', export .. key .. ':lock', token, 'PX', ARGV[15])
        token = ''
        taken_in = breaker_of(ARGV[i+6]).epoch
        results[#results+1] = 6
      else
        wake_workers(prefix, 'export')
        results[#results+1] = 8
      end
      count_export(prefix, key, ARGV[i+6], bytes)
      count('export:' .. class, 1, items, bytes)
      add(KEYS[4], 'moved:' .. class, items)
    else
      local replay = origin == 'replay'
      if replay then replayed = true end
      put_job(prefix, (replay and 'replay-' or '') .. class, key, ARGV[i+6], ARGV[i+5], opts, now, 'LPUSH')
      count((replay and 'replay:' or 'queued:') .. class, 1, items, bytes)
      tell('waiting:' .. ARGV[i+6], 1)
      queued = true
      results[#results+1] = 1
    end
    held_bytes, held_items = held_bytes + bytes, held_items + items
    if origin == 'live' then accepted = accepted + items end
  elseif rcall('EXISTS', payload) == 1 then
    results[#results+1] = 2
  else
    results[#results+1] = 3
  end
end
if next(depth) then
  write_depth(KEYS[1])
  write_tally(prefix)
  if accepted > 0 then add(KEYS[2], 'accepted', accepted) end
  for field, n in pairs(books) do add(KEYS[2], field, n) end
end
if queued then rcall('ZADD', KEYS[3], 0, '0') end
if spilled then wake_workers(prefix, 'spill') end
for _, answer in ipairs(answers) do results[#results+1] = answer end
if taken_in then results[#results+1] = taken_in end
return results
`;
