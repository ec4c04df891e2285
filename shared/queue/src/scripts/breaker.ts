/**
 * The rules of the breaker, as Lua that other scripts include after the prelude. Each signal has a destination and a breaker of its own, so that
 * a failing signal does not stop the others. The state is the hash `<prefix>:breaker:<signal>`:
 *
 *   state      closed | open | half_open        reason   why it last opened (`failures`, `quota`, `auth`, `place`)
 *   since      ms, start of the state           retry_at ms, earliest probe
 *   epoch      number of the state: an answer counts only in the state in which its request was sent
 *   said       the upstream's message when it last opened
 *   failures   consecutive, of all exporters    opened   times opened since the last success
 *   n:<slot>, q:<slot>, at:<slot>               answers and 429s in one tenth of the window, and which tenth it is
 *   opened_total, opened_total:<reason>, half_opened_total, closed_total, ok_total (successes)   since the prefix was first
 *   used
 *
 * A field that is not a number, because somebody edited it, counts as 0 and is reset: no step fails for it.
 *
 * `breaker_args` reads the options from ARGV: failures, quota ratio, minimum number of answers, window in ms, minimum and
 * maximum open time in ms.
 */
export const breaker = `
local function breaker_args(i)
  return { failures = tonumber(ARGV[i]), ratio = tonumber(ARGV[i+1]), least = tonumber(ARGV[i+2]),
    window = tonumber(ARGV[i+3]), min_open = tonumber(ARGV[i+4]), max_open = tonumber(ARGV[i+5]) }
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
local function breaker_key(prefix, signal) return prefix .. ':breaker:' .. signal end
local function breaker_becomes(key, state, now)
  redis.call('HSET', key, 'state', state, 'since', now)
  breaker_count(key, 'epoch')
end
local function breaker_open(key, reason, now, retry_after, options, said)
  local opened = breaker_number(redis.call('HGET', key, 'opened'))
  local wait = math.max(math.min(options.max_open, options.min_open * 2 ^ math.min(opened, 30)), retry_after)
  breaker_becomes(key, 'open', now)
  redis.call('HSET', key, 'reason', reason, 'retry_at', string.format('%.0f', now + wait), 'opened', opened + 1, 'said', said)
  breaker_count(key, 'opened_total')
  breaker_count(key, 'opened_total:' .. reason)
end
-- Counts one answer. kind: ok, failure, fault (at a batch's first attempt) or again (at a later one), quota, auth, place.
-- epoch: that of the state in which the request was sent, empty for the current one. Gives the new state, and whether it
-- changed.
local function breaker_report(prefix, signal, epoch, kind, retry_after, options, said)
  local key, now = breaker_key(prefix, signal), clock()
  local held = redis.call('HMGET', key, 'state', 'epoch')
  local state = held[1] or 'closed'
  if state == 'open' or (epoch ~= '' and epoch ~= (held[2] or '0')) then return state, false end
  local tenth = math.floor(now / (options.window / 10))
  local slot = tenth % 10
  if redis.call('HGET', key, 'at:' .. slot) ~= tostring(tenth) then
    redis.call('HSET', key, 'at:' .. slot, tostring(tenth), 'n:' .. slot, 0, 'q:' .. slot, 0)
  end
  breaker_count(key, 'n:' .. slot)
  if kind == 'ok' then
    redis.call('HSET', key, 'failures', 0)
    breaker_count(key, 'ok_total')
    if state == 'half_open' then
      breaker_becomes(key, 'closed', now)
      redis.call('HSET', key, 'opened', 0)
      breaker_count(key, 'closed_total')
      for i = 0, 9 do redis.call('HDEL', key, 'n:' .. i, 'q:' .. i, 'at:' .. i) end
      return 'closed', true
    end
    return state, false
  end
  if kind == 'quota' then breaker_count(key, 'q:' .. slot) end
  local failures = breaker_number(redis.call('HGET', key, 'failures'))
  if kind ~= 'again' then failures = breaker_count(key, 'failures') end
  local reason
  if kind == 'auth' or kind == 'place' then
    reason = kind
  elseif state == 'half_open' then
    reason = kind == 'quota' and 'quota' or 'failures'
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
  if not reason then return state, false end
  breaker_open(key, reason, now, retry_after, options, said)
  return 'open', true
end
-- Changes to half-open once the probe is due. Gives the state, and when the next probe is due.
local function breaker_step(prefix, signal, now)
  local key = breaker_key(prefix, signal)
  local held = redis.call('HMGET', key, 'state', 'retry_at', 'since')
  local state, retry_at, since = held[1] or 'closed', breaker_number(held[2]), breaker_number(held[3])
  if state == 'open' and since > now then
    -- The clock was set back: as if it had opened now.
    retry_at = now + math.max(0, retry_at - since)
    redis.call('HSET', key, 'since', now, 'retry_at', string.format('%.0f', retry_at))
  end
  if state == 'open' and now >= retry_at then
    breaker_becomes(key, 'half_open', now)
    breaker_count(key, 'half_opened_total')
    redis.call('ZADD', prefix .. ':export:marker', 0, '0')
    return 'half_open', retry_at
  end
  return state, retry_at
end
`;
