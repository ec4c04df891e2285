import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';
import { SNAPSHOT_BATCHES_MAX, SNAPSHOT_JOBS_MAX } from './snapshot.ts';

/** Maximum number of acts per call; each searches one list or set for one id. */
export const MEND_ACTS_MAX = 16;

/**
 * Repairs what the doctor has found, or only checks the findings. Each act checks its finding in the same step as it changes
 * something; what has changed meanwhile is left alone. No payload that a job holds is removed.
 *
 * KEYS  1 depth  2 books  3 wake  4 doctor: token of the one that is running
 * ARGV  1 prefix  2 token  3 now in ms  4 job options (JSON)  5 '1' to repair, '0' to check  6 acts (JSON array):
 *   { act: 'empty', queue, id }      a waiting job without payloads: remove it
 *   { act: 'odd', queue, id }        a job that is not the pipeline's: move it to the failed set
 *   { act: 'return', queue, id }     a job with payloads where no service looks for it: move it to the front of its queue
 *   { act: 'stray', queue, id }      a job's hash that is in no list: requeue it, or remove it if it has no payloads
 *   { act: 'payload', key, data }    a payload without a job: add a job with this data
 *   { act: 'depth', counts }         add to fields of the depth
 *   { act: 'field', key, field }     a field that is not a number: remove it
 *   { act: 'aside', key, type }      a key of the wrong type: rename it
 *   { act: 'books', counts }         add to fields of the accounting
 * Gives for each act 1, 0 if its finding does not hold (any more), or -1 if the limits did not allow to tell; then the lines of
 *   jobs that went to a failed set
 */
export const mend = `#!lua flags=allow-oom
${prelude}
${jobs}
local prefix, now, opts, mends = ARGV[1], ARGV[3], ARGV[4], ARGV[5] == '1'
local acts = cjson.decode(ARGV[6])
if rcall('GET', KEYS[4]) ~= ARGV[2] then error({ err = 'another doctor is running' }) end
rcall('PEXPIRE', KEYS[4], 60000)
local queues = { 'critical', 'high', 'normal', 'replay-critical', 'replay-high', 'replay-normal', 'export', 'spill' }
local lists = { 'wait', 'active', 'paused', 'aside:traces', 'aside:metrics', 'aside:logs', 'aside:profiles' }
local function is_aside(part) return string.sub(part, 1, 6) == 'aside:' end
local sets = { 'delayed', 'prioritized', 'failed', 'completed', 'waiting-children' }
local is_set = {}
for _, part in ipairs(sets) do is_set[part] = true end
local function job_key(queue, id) return prefix .. ':' .. queue .. ':' .. id end
local function held(key) return is_held(prefix .. ':payload:' .. key) end

-- The list or set of a queue that contains an id.
local function place_of(queue, id)
  for _, part in ipairs(sets) do
    local score = redis.pcall('ZSCORE', job_key(queue, part), id)
    if type(score) == 'string' then return part end
  end
  for _, part in ipairs(lists) do
    local at = redis.pcall('LPOS', job_key(queue, part), id)
    if type(at) == 'number' then return part end
  end
end
local function remove_from(queue, part, id)
  if is_aside(part) then tell('aside', -1) end
  if is_set[part] then rcall('ZREM', job_key(queue, part), id) else rcall('LREM', job_key(queue, part), 0, id) end
end
-- To be called before a job that was counted by signal is removed.
local function uncount(queue, part, id, job)
  if queue == 'export' then uncount_export(prefix, id)
  elseif queue ~= 'spill' and (part == 'wait' or is_aside(part)) then tell('waiting:' .. job.signal, -1) end
end
local function held_of(job)
  local n, items, bytes = 0, 0, 0
  for _, batch in ipairs(job.batches) do
    if held(batch.key) then n, items, bytes = n + 1, items + batch.items, bytes + batch.bytes end
  end
  return n, items, bytes
end
local function home_of(queue, job)
  if queue == 'export' or queue == 'spill' then return queue end
  return (job.origin == 'replay' and 'replay-' or '') .. job.class
end
-- Lists and markers that an act may write to; those of another type are left to the act that renames them.
local function may_write(queue)
  return type(redis.pcall('LLEN', job_key(queue, 'wait'))) == 'number'
    and type(redis.pcall('ZCARD', job_key(queue, 'marker'))) == 'number'
    and type(redis.pcall('ZCARD', KEYS[3])) == 'number' and type(redis.pcall('HLEN', KEYS[1])) == 'number'
end
local function put_in(queue, id)
  rcall('RPUSH', job_key(queue, 'wait'), id)
  if queue == 'export' or queue == 'spill' then wake_workers(prefix, queue) else rcall('ZADD', KEYS[3], 0, '0') end
end

-- Payload keys of jobs in the export and spill queues, where a job may have several, under the id of one of them.
local merged, complete
local function merged_keys()
  if merged then return merged end
  merged, complete = {}, true
  local jobs_left, batches_left = ${SNAPSHOT_JOBS_MAX}, ${SNAPSHOT_BATCHES_MAX}
  for _, queue in ipairs({ 'export', 'spill' }) do
    local function note(command, part)
      local ids = redis.pcall(command, job_key(queue, part), 0, jobs_left)
      if not complete or ids.err then return end
      for _, id in ipairs(ids) do
        local job = read_job(prefix, queue, id)
        for _, batch in ipairs(job and job.batches or {}) do
          merged[batch.key] = true
          batches_left = batches_left - 1
        end
        jobs_left = jobs_left - 1
      end
      if jobs_left <= 0 or batches_left <= 0 then complete = false end
    end
    for _, part in ipairs(lists) do note('LRANGE', part) end
    for _, part in ipairs(sets) do note('ZRANGE', part) end
  end
  return merged
end
-- Whether a job other than "but" holds this payload; nil if unknown. Jobs that are in no list are for another act.
local function is_in_a_job(key, but)
  for _, queue in ipairs(queues) do
    if job_key(queue, key) ~= but and read_job(prefix, queue, key) then return true end
  end
  if merged_keys()[key] then return true end
  if not complete then return nil end
  return false
end

local act = {}
function act.empty(a)
  local job = read_job(prefix, a.queue, a.id)
  local part = job and place_of(a.queue, a.id)
  if not part or rcall('EXISTS', job_key(a.queue, a.id) .. ':lock') == 1 or held_of(job) > 0 then return 0 end
  if mends then
    uncount(a.queue, part, a.id, job)
    remove_from(a.queue, part, a.id)
    rcall('UNLINK', job_key(a.queue, a.id))
  end
  return 1
end
function act.odd(a)
  local job, why = read_job(prefix, a.queue, a.id)
  local part = not job and place_of(a.queue, a.id)
  if not part or part == 'failed' then return 0 end
  if mends then
    remove_from(a.queue, part, a.id)
    fail_job(prefix, a.queue, a.id, why, now)
  end
  return 1
end
act['return'] = function(a)
  local job = read_job(prefix, a.queue, a.id)
  local part = job and place_of(a.queue, a.id)
  if not part or held_of(job) == 0 then return 0 end
  local flows = a.queue == 'export' or a.queue == 'spill'
  if part == 'wait' or is_aside(part) or (flows and (part == 'active' or part == 'delayed')) then return 0 end
  if rcall('EXISTS', job_key(a.queue, a.id) .. ':lock') == 1 then return 0 end
  for _, batch in ipairs(job.batches) do
    if held(batch.key) and rcall('TYPE', prefix .. ':payload:' .. batch.key).ok ~= 'string' then return -1 end
  end
  if a.queue ~= home_of(a.queue, job) or not may_write(a.queue) then return -1 end
  if mends then
    remove_from(a.queue, part, a.id)
    rcall('HDEL', job_key(a.queue, a.id), 'failedReason', 'finishedOn', 'returnvalue')
    rcall('HSET', job_key(a.queue, a.id), 'delay', 0, 'priority', 0, 'opts', opts)
    put_in(a.queue, a.id)
  end
  return 1
end
function act.stray(a)
  local key = job_key(a.queue, a.id)
  if rcall('TYPE', key).ok ~= 'hash' or rcall('HEXISTS', key, 'data') == 0 or place_of(a.queue, a.id) then return 0 end
  local job, why = read_job(prefix, a.queue, a.id)
  if not job then
    if mends then fail_job(prefix, a.queue, a.id, why, now) end
    return 1
  end
  local n, items, bytes = held_of(job)
  local home = home_of(a.queue, job)
  if n > 0 then
    for _, batch in ipairs(job.batches) do
      if held(batch.key) then
        local other = is_in_a_job(batch.key, key)
        if other == nil then return -1 end
        if other then n = 0 end
      end
    end
  end
  if n > 0 and (not may_write(home) or (home ~= a.queue and rcall('EXISTS', job_key(home, a.id)) == 1)) then return -1 end
  if not mends then return 1 end
  if n == 0 then return rcall('UNLINK', key) end
  if home ~= a.queue then rcall('RENAME', key, job_key(home, a.id)) end
  rcall('HSET', job_key(home, a.id), 'opts', opts, 'delay', 0, 'priority', 0)
  put_in(home, a.id)
  count(stage_of(home, job), n, items, bytes)
  return 1
end
function act.payload(a)
  if not held(a.key) then return 0 end
  local other = is_in_a_job(a.key)
  if other == nil then return -1 end
  if other then return 0 end
  if not mends then return 1 end
  local job = cjson.decode(a.data)
  local home = home_of('', job)
  if oddity(job) or not may_write(home) then return -1 end
  if not put_job(prefix, home, a.key, job.signal, a.data, opts, now, 'RPUSH') then return -1 end
  rcall('ZADD', KEYS[3], 0, '0')
  count(stage_of(home, job), 1, job.items, job.bytes)
  tell('waiting:' .. job.signal, 1)
  return 1
end
local function adds_to(key)
  return function(a)
    if type(redis.pcall('HLEN', key)) ~= 'number' then return -1 end
    for field, n in pairs(mends and a.counts or {}) do add(key, field, n) end
    return 1
  end
end
act.depth, act.books = adds_to(KEYS[1]), adds_to(KEYS[2])
function act.field(a)
  local value = redis.pcall('HGET', a.key, a.field)
  if type(value) ~= 'string' or (tonumber(value) and math.abs(tonumber(value)) < 1e15) then return 0 end
  if mends then rcall('HDEL', a.key, a.field) end
  return 1
end
function act.aside(a)
  local is = rcall('TYPE', a.key).ok
  if is == 'none' or is == a.type then return 0 end
  if mends then rcall('RENAME', a.key, a.key .. ':set-aside:' .. now) end
  return 1
end

local result = {}
for i, a in ipairs(acts) do
  if i > ${MEND_ACTS_MAX} then break end
  result[#result+1] = act[a.act](a)
end
if next(depth) then write_depth(KEYS[1]) end
write_tally(prefix)
for _, line in ipairs(odd) do result[#result+1] = line end
return result
`;
