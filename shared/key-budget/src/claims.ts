/**
 * A claim is what a limiter's decisions on a request rely on, and change, in the state that all receivers share. It is checked
 * completely before anything of its request is written, and applied in the same step: a refused request changes nothing, and if
 * two receivers advance the same source, one of them has to compute again.
 *
 * A claim is CLAIM_ARGS arguments:
 *    0 epoch   1 version of the rules   2 position up to which the log of keys was read   3 '1': all of it must be read
 *    4 keys that came in   5 keys to add   6 keys to remove   (8 bytes each)
 *    7 streams forwarded without being keys (8 bytes each)   8 producers and their first collection (16 bytes each)
 *    9 sources: field, expected version, value, in turn (MessagePack array). A version is 16 bytes, '' for none, 'F' for
 *      none though its own stream is known; value '' removes it
 *   10 levels of this writer: field and value, in turn (MessagePack array); without a value the level is 0 and is removed
 *   11 rules: field and JSON, in turn (MessagePack array); '' ends a rule
 *   12 slot of the writer   13 its token   14 time of its last write, Unix ms; 0 for none
 *   15 maximum number of keys of all receivers   16 generation: number of the time span in which keys are remembered
 *   17 time spans after which a key expires
 *   18 deferred merged points: field and point, in turn (MessagePack array)
 *   19 whose deferred points are sent with the batches: the slot of the writer, 'left:' and a number for those of a former
 *      writer, '' for none
 *   20 of the keys in 4 and 5, those of cumulative streams that pass unmerged (8 bytes each): the backend keeps the value of
 *      such a stream, so that after its key has expired it must still count as forwarded
 *   21 flags: no stream in 4 may be a source with one of these in its first byte; 0: no restriction
 */
export const CLAIM_ARGS = 22;

/** Number of log entries that are kept, and of those that one answer returns. */
const LOG_KEPT = 4096;

export const claims = `
local limiter = prefix .. ':limiter'
local function claim_arg(c, n) return ARGV[c + n] end
local function in_parts(fields, step, f)
  for from = 1, #fields, step do f(from, math.min(from + step - 1, #fields)) end
end
local function hmget(key, fields)
  local values = {}
  in_parts(fields, 4000, function(from, to)
    for _, value in ipairs(rcall('HMGET', key, unpack(fields, from, to))) do values[#values+1] = value end
  end)
  return values
end
local function hset(key, pairs_)
  in_parts(pairs_, 4000, function(from, to) rcall('HSET', key, unpack(pairs_, from, to)) end)
end
local function hdel(key, fields)
  in_parts(fields, 4000, function(from, to) rcall('HDEL', key, unpack(fields, from, to)) end)
end
local function cut(blob, size)
  local parts = {}
  for at = 1, #blob, size do parts[#parts+1] = string.sub(blob, at, at + size - 1) end
  return parts
end
local function list(packed) return packed == '' and {} or cmsgpack.unpack(packed) end
local function put(pairs_, field, value)
  pairs_[#pairs_+1] = field
  pairs_[#pairs_+1] = value
end
local function set_of(keys)
  local set = {}
  for _, key in ipairs(keys) do set[key] = true end
  return set
end
-- The value of a key is the generation in which it was last seen, plus a half for a cumulative stream that passes unmerged. It
-- has to be a number, because receivers of the version before this one read it as that.
local function generation_of(key) return math.floor(tonumber(key) or 0) end
local function counts_by_itself(key) return (tonumber(key) or 0) % 1 ~= 0 end
local function finite(text, otherwise)
  local n = tonumber(text or otherwise)
  return n and n >= 0 and n < 9007199254740992 and n or otherwise
end
-- Nil: somebody has made it something else.
local function whole(text) return #text < 16 and string.match(text, '^%d+$') and tonumber(text) or nil end
-- Cumulative streams that are not keys but have a value at the backend; at the limit, others are evicted.
local function note_forwarded(fields, generation, max_keys)
  if #fields == 0 then return end
  local over = rcall('HLEN', limiter .. ':forwarded') + #fields - 4 * max_keys
  if over > 0 then hdel(limiter .. ':forwarded', rcall('HRANDFIELD', limiter .. ':forwarded', over)) end
  local pairs_ = {}
  for _, field in ipairs(fields) do
    put(pairs_, field, num(generation))
  end
  hset(limiter .. ':forwarded', pairs_)
end
local function forget_keys(generation, spans, max_keys)
  local cursor = rcall('HGET', limiter, 'cursor:keys') or '0'
  local found = rcall('HSCAN', limiter .. ':keys', cursor, 'COUNT', 256)
  local gone, forwarded = {}, {}
  for i = 1, #found[2], 2 do
    if generation_of(found[2][i+1]) < generation - spans then
      gone[#gone+1] = found[2][i]
      if counts_by_itself(found[2][i+1]) then forwarded[#forwarded+1] = found[2][i] end
    end
  end
  hdel(limiter .. ':keys', gone)
  note_forwarded(forwarded, generation, max_keys)
  rcall('HSET', limiter, 'cursor:keys', found[1])
  return #gone
end

-- Why a claim must be refused; writes nothing.
local function against(c)
  local state = rcall('HMGET', limiter, 'epoch', 'version', 'log')
  local log = whole(state[3] or '0')
  -- The lease, with which the receiver reads all again, resets counters.
  if state[1] ~= claim_arg(c, 0) or not log or not whole(state[2] or '0') then return { 'epoch' } end
  if (state[2] or '0') ~= claim_arg(c, 1) then return { 'rules', state[2] or '0', rcall('HGETALL', limiter .. ':rules') } end
  if claim_arg(c, 3) == '1' and log > tonumber(claim_arg(c, 2)) then return { 'keys' } end
  local sent = claim_arg(c, 19)
  local writes = claim_arg(c, 14) ~= '0' or claim_arg(c, 18) ~= '' or sent == claim_arg(c, 12)
  if writes and rcall('HGET', limiter .. ':writers', claim_arg(c, 12) .. ':token') ~= claim_arg(c, 13) then
    return { 'writer' }
  end
  if string.sub(sent, 1, 5) == 'left:' and rcall('EXISTS', limiter .. ':' .. sent) == 0 then return { 'sent' } end
  local all = list(claim_arg(c, 9))
  if #all > 0 then
    local fields, news = {}, {}
    for i = 1, #all, 3 do fields[#fields+1] = all[i] end
    local moved = {}
    for i, held in ipairs(hmget(limiter .. ':sources', fields)) do
      local expected = all[3 * i - 1]
      local version = held and string.sub(held, 6, 21) or ''
      if expected == '' and not held then
        news[#news+1] = fields[i]
      elseif version ~= expected and not (expected == 'F' and not held) then
        put(moved, fields[i], held or '')
      end
    end
    if #moved > 0 then return { 'sources', moved } end
    if #news > 0 then
      local known = {}
      local forwarded = hmget(limiter .. ':forwarded', news)
      for i, generation in ipairs(hmget(limiter .. ':keys', news)) do
        if generation or forwarded[i] then known[#known+1] = news[i] end
      end
      if #known > 0 then return { 'forwarded', known } end
    end
  end
  local keys = cut(claim_arg(c, 4), 8)
  local never = tonumber(claim_arg(c, 21))
  if #keys > 0 and never > 0 and rcall('HLEN', limiter .. ':sources') > 0 then
    local counts, counting = set_of(cut(claim_arg(c, 20), 8)), {}
    for _, key in ipairs(keys) do
      if counts[key] then counting[#counting+1] = key end
    end
    local merged = {}
    for i, held in ipairs(hmget(limiter .. ':sources', counting)) do
      if held and bit.band(string.byte(held), never) ~= 0 then
        put(merged, counting[i], held)
      end
    end
    if #merged > 0 then return { 'sources', merged } end
  end
  if #keys > 0 then
    local absent = 0
    for _, generation in ipairs(hmget(limiter .. ':keys', keys)) do
      if not generation then absent = absent + 1 end
    end
    local max = tonumber(claim_arg(c, 15))
    if absent > 0 and rcall('HLEN', limiter .. ':keys') + absent > max then
      forget_keys(tonumber(claim_arg(c, 16)), tonumber(claim_arg(c, 17)), max)
      if rcall('HLEN', limiter .. ':keys') + absent > max then return { 'full' } end
    end
  end
end

local function make_true(c)
  local generation = tonumber(claim_arg(c, 16))
  local keys = cut(claim_arg(c, 4) .. claim_arg(c, 5), 8)
  local news = {}
  if #keys > 0 then
    local counting = cut(claim_arg(c, 20), 8)
    local counts = set_of(counting)
    local pairs_ = {}
    for i, held in ipairs(hmget(limiter .. ':keys', keys)) do
      if not held or generation_of(held) < generation then
        news[#news+1] = keys[i]
        put(pairs_, keys[i], num(generation) .. (counts[keys[i]] and '.5' or ''))
      end
    end
    hset(limiter .. ':keys', pairs_)
    hdel(limiter .. ':forwarded', counting)
  end
  hdel(limiter .. ':keys', cut(claim_arg(c, 6), 8))
  note_forwarded(cut(claim_arg(c, 7), 8), generation, tonumber(claim_arg(c, 15)))
  local told = ''
  for _, producer in ipairs(cut(claim_arg(c, 8), 16)) do
    local field = string.sub(producer, 1, 8)
    if rcall('HSETNX', limiter .. ':producers', field, string.sub(producer, 9)) == 1 then told = told .. producer end
  end
  local entries = {}
  if #news > 0 then entries[#entries+1] = 'k' .. table.concat(news) end
  if told ~= '' then entries[#entries+1] = 'p' .. told end
  if #entries > 0 then
    rcall('RPUSH', limiter .. ':log', unpack(entries))
    rcall('LTRIM', limiter .. ':log', ${-LOG_KEPT}, -1)
    rcall('HINCRBY', limiter, 'log', #entries)
  end
  local moved, ended, handed_over = {}, {}, {}
  local sources = list(claim_arg(c, 9))
  for i = 1, #sources, 3 do
    if sources[i+1] == 'F' then handed_over[#handed_over+1] = sources[i] end
    if sources[i+2] == '' then
      ended[#ended+1] = sources[i]
    else
      put(moved, sources[i], sources[i+2])
    end
  end
  hset(limiter .. ':sources', moved)
  hdel(limiter .. ':sources', ended)
  hdel(limiter .. ':forwarded', handed_over)
  local slot = claim_arg(c, 12)
  local kept, zero = {}, {}
  local levels = list(claim_arg(c, 10))
  for i = 1, #levels, 2 do
    if levels[i+1] == '' then
      zero[#zero+1] = levels[i]
    else
      put(kept, levels[i], levels[i+1])
    end
  end
  hset(limiter .. ':levels:' .. slot, kept)
  hdel(limiter .. ':levels:' .. slot, zero)
  local sent = claim_arg(c, 19)
  if sent == slot then
    rcall('UNLINK', limiter .. ':held:' .. slot)
  elseif sent ~= '' then
    rcall('UNLINK', limiter .. ':' .. sent)
    rcall('LREM', limiter .. ':left', 1, sent)
  end
  hset(limiter .. ':held:' .. slot, list(claim_arg(c, 18)))
  local rules = list(claim_arg(c, 11))
  for i = 1, #rules, 2 do
    if rules[i+1] == '' then rcall('HDEL', limiter .. ':rules', rules[i])
    else rcall('HSET', limiter .. ':rules', rules[i], rules[i+1]) end
  end
  if #rules > 0 then rcall('HINCRBY', limiter, 'version', 1) end
  local written = tonumber(claim_arg(c, 14))
  if written > finite(rcall('HGET', limiter .. ':writers', slot .. ':last'), 0) then
    rcall('HSET', limiter .. ':writers', slot .. ':last', claim_arg(c, 14))
  end
end

-- The current shared state: version, keys, sources, and the log from the given position.
local function pipeline_state(read)
  local state = rcall('HMGET', limiter, 'version', 'log')
  local log = tonumber(state[2] or 0)
  local base = log - rcall('LLEN', limiter .. ':log')
  local missed = read < base
  local entries = {}
  if not missed and log > read then entries = rcall('LRANGE', limiter .. ':log', read - base, -1) end
  return { state[1] or '0', num(rcall('HLEN', limiter .. ':keys')), num(rcall('HLEN', limiter .. ':sources')), num(log),
    missed and '1' or '0', entries }
end
`;
