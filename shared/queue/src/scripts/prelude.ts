/**
 * Functions that every script shares. Redis takes nothing back: a script that fails in the middle leaves half a step behind. So
 * each one looks at what it is about to change first (\`expect\`), and a counter that somebody has made no number is begun anew
 * (\`add\`) rather than fail.
 *
 * Depth changes are summed up in `depth` and written once at the end:
 * a window of 64 batches costs as many HINCRBY as one.
 *
 * `num` prints integers: Lua would print 1e+15 for large ones, which HINCRBY refuses.
 */
export const prelude = `
local rcall = redis.call
local function num(n) return string.format('%.0f', n) end
-- Fails with the name of the key when that is of another type than the command is for.
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
-- With a time to live it was never counted: a Redis that has forgotten its end may have the payload and not the step after.
local function is_held(payload) return rcall('TTL', payload) == -1 end
local function wake_workers(prefix, queue)
  if not rcall('HGET', prefix .. ':' .. queue .. ':meta', 'paused') then
    rcall('ZADD', prefix .. ':' .. queue .. ':marker', 0, '0')
  end
end
`;
