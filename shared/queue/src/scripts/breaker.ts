/**
 * The breaker's one copy of its rules, as Lua that other scripts include. Its state is the hash `<prefix>:breaker`:
 *
 *   state      closed | open | half_open        reason   why it opened last (`failures`, `quota`, `auth`)
 *   since      ms, when the state began         retry_at ms, earliest probe
 *   failures   in a row, all exporters          opened   openings in a row without a success between
 *   n:<slot>, q:<slot>, at:<slot>               answers and 429s in one tenth of the window, and which tenth it is
 *   opened_total, opened_total:<reason>, half_opened_total, closed_total   counted since the prefix was first used
 *
 * A field that somebody has made no number counts as 0, and a counter is begun anew: no step fails for it.
 *
 * `breaker_args` reads the options from ARGV: failures, quota ratio, least answers, window ms, shortest and longest
 * open time in ms.
 */
export const breaker = `
local function breaker_args(i)
  return { failures = tonumber(ARGV[i]), ratio = tonumber(ARGV[i+1]), least = tonumber(ARGV[i+2]),
    window = tonumber(ARGV[i+3]), min_open = tonumber(ARGV[i+4]), max_open = tonumber(ARGV[i+5]) }
end
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function breaker_number(text)
  local n = tonumber(text) or 0
  return n > -1e15 and n < 1e15 and n or 0
end
local function breaker_count(key, field)
  local counted = redis.pcall('HINCRBY', key, field, 1)
  if type(counted) == 'number' then return counted end
  redis.call('HSET', key, field, 1)
  return 1
end
local function pause_export(prefix)
  redis.call('HSET', prefix .. ':export:meta', 'paused', 1)
  redis.call('DEL', prefix .. ':export:marker')
end
local function resume_export(prefix)
  redis.call('HDEL', prefix .. ':export:meta', 'paused')
  redis.call('ZADD', prefix .. ':export:marker', 0, '0')
end
local function breaker_open(prefix, reason, now, retry_after, options)
  local key = prefix .. ':breaker'
  local opened = breaker_number(redis.call('HGET', key, 'opened'))
  local wait = math.max(math.min(options.max_open, options.min_open * 2 ^ math.min(opened, 30)), retry_after)
  redis.call('HSET', key, 'state', 'open', 'reason', reason, 'since', now, 'retry_at', string.format('%.0f', now + wait), 'opened', opened + 1)
  breaker_count(key, 'opened_total')
  breaker_count(key, 'opened_total:' .. reason)
  pause_export(prefix)
end
-- One answer of the upstream. kind: ok, failure, quota or auth.
local function breaker_report(prefix, kind, retry_after, options)
  local key, now = prefix .. ':breaker', clock()
  local tenth = math.floor(now / (options.window / 10))
  local slot = tenth % 10
  if redis.call('HGET', key, 'at:' .. slot) ~= tostring(tenth) then
    redis.call('HSET', key, 'at:' .. slot, tostring(tenth), 'n:' .. slot, 0, 'q:' .. slot, 0)
  end
  breaker_count(key, 'n:' .. slot)
  local state = redis.call('HGET', key, 'state') or 'closed'
  if kind == 'ok' then
    redis.call('HSET', key, 'failures', 0)
    if state == 'half_open' then
      redis.call('HSET', key, 'state', 'closed', 'since', now, 'opened', 0)
      breaker_count(key, 'closed_total')
      for i = 0, 9 do redis.call('HDEL', key, 'n:' .. i, 'q:' .. i, 'at:' .. i) end
      resume_export(prefix)
      return 'closed'
    end
    return state
  end
  if kind == 'quota' then breaker_count(key, 'q:' .. slot) end
  local failures = breaker_count(key, 'failures')
  if state == 'half_open' then
    local reasons = { quota = 'quota', auth = 'auth' }
    breaker_open(prefix, reasons[kind] or 'failures', now, retry_after, options)
    return 'open'
  elseif state == 'open' then
    local asked = now + retry_after
    if asked > breaker_number(redis.call('HGET', key, 'retry_at')) then
      redis.call('HSET', key, 'retry_at', string.format('%.0f', asked))
    end
    return 'open'
  end
  local reason
  if kind == 'auth' then
    reason = 'auth'
  else
    local answers, quotas = 0, 0
    for i = 0, 9 do
      local at = redis.call('HMGET', key, 'at:' .. i, 'n:' .. i, 'q:' .. i)
      if breaker_number(at[1]) > tenth - 10 then
        answers, quotas = answers + breaker_number(at[2]), quotas + breaker_number(at[3])
      end
    end
    if answers >= options.least and quotas / answers >= options.ratio then reason = 'quota'
    elseif failures >= options.failures then reason = kind == 'quota' and 'quota' or 'failures' end
  end
  if reason then
    breaker_open(prefix, reason, now, retry_after, options)
    return 'open'
  end
  return 'closed'
end
-- Lets the probe time begin when it has come.
local function breaker_step(prefix)
  local key = prefix .. ':breaker'
  local held = redis.call('HMGET', key, 'state', 'retry_at')
  local state = held[1] or 'closed'
  if state == 'open' and clock() >= breaker_number(held[2]) then
    redis.call('HSET', key, 'state', 'half_open', 'since', clock())
    breaker_count(key, 'half_opened_total')
    resume_export(prefix)
    return 'half_open'
  end
  return state
end
`;
