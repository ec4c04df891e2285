/**
 * Reads jobs, which anybody with access may have written; Lua that other scripts include after the prelude. A job is read
 * completely before anything is written. One that is not the pipeline's goes to the failed set of its queue, where BullMQ and
 * its dashboards show it with the reason; its data stays, in a form that they can read.
 *
 * `odd` has a line for each: queue, id and reason.
 */
export const jobs = `
local odd = {}
local signal_names = { traces = true, metrics = true, logs = true, profiles = true }
local encodings = { identity = true, gzip = true, deflate = true, zstd = true }
local class_names = { critical = true, high = true, normal = true }
local function is_count(n) return type(n) == 'number' and n >= 0 and n < 9e15 and n == math.floor(n) end

-- What is wrong with a job's data; nil for a job of the pipeline.
local function oddity(job)
  if type(job) ~= 'table' then return 'its data is no object' end
  if not signal_names[job.signal] then return 'data.signal is none of traces, metrics, logs, profiles' end
  if not class_names[job.class] then return 'data.class is none of critical, high, normal' end
  if job.origin ~= 'live' and job.origin ~= 'replay' then return 'data.origin is neither live nor replay' end
  if not encodings[job.encoding] then return 'data.encoding is none of identity, gzip, deflate, zstd' end
  if type(job.batches) ~= 'table' or #job.batches == 0 then return 'data.batches is no list of batches' end
  local items, bytes = 0, 0
  for _, batch in ipairs(job.batches) do
    if type(batch) ~= 'table' or type(batch.key) ~= 'string' then return 'data.batches[].key is no text' end
    if not is_count(batch.items) or not is_count(batch.bytes) or not is_count(batch.receivedAt) then
      return 'items, bytes or receivedAt in data.batches[] is no whole number'
    end
    items, bytes = items + batch.items, bytes + batch.bytes
  end
  if job.items ~= items or job.bytes ~= bytes then return 'data.items or data.bytes is not the sum over data.batches' end
  if job.attempts and not is_count(job.attempts) then return 'data.attempts is no whole number' end
end

-- Gives the job, its data and its number of attempts; or nil and what is odd about it.
local function read_job(prefix, queue, id)
  local fields = redis.pcall('HMGET', prefix .. ':' .. queue .. ':' .. id, 'data', 'atm', 'name')
  if fields.err then return nil, 'its key is no hash' end
  if not fields[1] then return nil, 'it has no data' end
  local readable, job = pcall(cjson.decode, fields[1])
  if not readable then return nil, 'its data is no JSON' end
  local why = oddity(job)
  if why then return nil, why end
  if fields[3] ~= job.signal then return nil, 'its name is not data.signal' end
  return job, fields[1], tonumber(fields[2]) or 0
end

-- Field of the depth, without its unit, in which a job of this queue is counted.
local function stage_of(queue, job)
  if queue == 'spill' then return 'spill:' .. job.class end
  if queue == 'export' then return (job.origin == 'replay' and 'replay-export:' or 'export:') .. job.class end
  return (job.origin == 'replay' and 'replay:' or 'queued:') .. job.class
end

-- The signal by the job's name, without decoding its data; nil if it is none.
local function signal_of(prefix, queue, id)
  local name = redis.pcall('HGET', prefix .. ':' .. queue .. ':' .. id, 'name')
  return type(name) == 'string' and signal_names[name] and name or nil
end

-- For an id that has been removed from its list. Must not fail, since the step goes on.
local function fail_job(prefix, queue, id, why, now)
  local key = prefix .. ':' .. queue .. ':' .. id
  odd[#odd+1] = queue .. ' ' .. id .. ': ' .. why .. '; it is in the failed set'
  local fields = redis.pcall('HMGET', key, 'data', 'opts')
  if not fields.err then
    if queue == 'export' then uncount_export(prefix, id) end
    if not fields[1] and not fields[2] then return end
    -- BullMQ parses both as JSON, for a whole page at a time.
    for i, field in ipairs({ 'data', 'opts' }) do
      if fields[i] and not pcall(cjson.decode, fields[i]) then
        rcall('HSET', key, field .. ':unreadable', fields[i], field, cjson.encode({ unreadable = string.sub(fields[i], 1, 1024) }))
      end
    end
    rcall('HSET', key, 'failedReason', why .. '; expected a job of the pipeline', 'finishedOn', num(now))
  end
  redis.pcall('ZADD', prefix .. ':' .. queue .. ':failed', num(now), id)
end
`;
