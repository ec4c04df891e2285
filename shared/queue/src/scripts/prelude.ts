/**
 * Functions that all scripts share. Redis does not roll back: a script that fails half-way leaves half a step behind. So each
 * one checks the keys that it is about to change first (\`expect\`), and a counter that is not a number is reset (\`add\`)
 * rather than failing the step.
 *
 * Changes of the depth are summed up in `depth` and written once at the end, so that a window of 64 batches costs as many
 * HINCRBY as one.
 *
 * `num` prints integers: Lua prints large ones as 1e+15, which HINCRBY rejects.
 */
export const prelude = `
local rcall = redis.call
local classes = { 'critical', 'high', 'normal' }
local signals = { 'traces', 'metrics', 'logs', 'profiles' }
local function clock()
  local time = rcall('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function num(n) return string.format('%.0f', n) end
-- Fails with the name of the key if that has another type than the command expects.
local function ask(command, key)
  local answer = redis.pcall(command, key)
  if type(answer) == 'table' and answer.err then error({ err = key .. ': ' .. answer.err }) end
  return answer
end
local function expect(command, keys)
  for _, key in ipairs(keys) do ask(command, key) end
end
local function add(key, field, n)
  local answer = redis.pcall('HINCRBY', key, field, num(n))
  if type(answer) == 'table' then rcall('HSET', key, field, num(n)) end
end
-- One command for many keys, since a call costs as much as its work. Limited by how many values Lua can unpack.
local function unlink_all(keys)
  for from = 1, #keys, 1000 do rcall('UNLINK', unpack(keys, from, math.min(from + 999, #keys))) end
end
local depth = {}
local function count(stage, batches, items, bytes)
  local function sum(field, n)
    if n ~= 0 then depth[field] = (depth[field] or 0) + n end
  end
  sum(stage .. ':batches', batches)
  sum(stage .. ':items', items)
  sum(stage .. ':bytes', bytes)
  sum('total:batches', batches)
  sum('total:items', items)
  sum('total:bytes', bytes)
end
-- Jobs by signal, in the hash <prefix>:signals: waiting:<signal> in the class queues, aside of those set aside so that others
-- pass, out:<signal> and bytes:<signal> in the export queue. Whoever adds or ends a job updates it.
local tally = {}
local function tell(field, n) tally[field] = (tally[field] or 0) + n end
local function write_tally(prefix)
  for field, n in pairs(tally) do
    if n ~= 0 then add(prefix .. ':signals', field, n) end
  end
end
local function count_export(prefix, id, signal, bytes)
  rcall('HSET', prefix .. ':export:' .. id, 'size', num(bytes))
  tell('out:' .. signal, 1)
  tell('bytes:' .. signal, bytes)
end
-- Only jobs with a size were counted, not those that somebody else added.
local function uncount_export(prefix, id)
  local key = prefix .. ':export:' .. id
  local job = redis.pcall('HMGET', key, 'name', 'size')
  if not job[1] or not job[2] then return end
  rcall('HDEL', key, 'size')
  tell('out:' .. job[1], -1)
  tell('bytes:' .. job[1], -(tonumber(job[2]) or 0))
end
local function write_depth(key)
  for field, n in pairs(depth) do
    if n ~= 0 then add(key, field, n) end
  end
end
local function put_job(prefix, queue, id, name, data, opts, now, push, list)
  local job = prefix .. ':' .. queue .. ':' .. id
  if rcall('EXISTS', job) == 1 then return false end
  rcall('HSET', job, 'name', name, 'data', data, 'opts', opts, 'timestamp', now, 'delay', 0, 'priority', 0)
  rcall(push, prefix .. ':' .. queue .. ':' .. (list or 'wait'), id)
  return true
end
-- A payload that still has a TTL was never claimed by a job (the AOF can end between SET and the script), so it must not be
-- counted.
local function is_held(payload) return rcall('TTL', payload) == -1 end
local function is_paused(prefix, queue) return type(redis.pcall('HGET', prefix .. ':' .. queue .. ':meta', 'paused')) == 'string' end
-- Whether batches wait in a class queue.
local function is_queued(prefix)
  return rcall('EXISTS', prefix .. ':critical:wait', prefix .. ':high:wait', prefix .. ':normal:wait',
    prefix .. ':replay-critical:wait', prefix .. ':replay-high:wait', prefix .. ':replay-normal:wait') > 0
    or (tonumber(rcall('HGET', prefix .. ':signals', 'aside')) or 0) > 0
end
local function wake_workers(prefix, queue)
  if not rcall('HGET', prefix .. ':' .. queue .. ':meta', 'paused') then
    rcall('ZADD', prefix .. ':' .. queue .. ':marker', 0, '0')
  end
end
`;
