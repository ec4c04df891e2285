import { prelude } from './prelude.ts';

/**
 * Stores the dlq's report on its disk and returns the accounting of the same moment. The dlq reports while nothing of its own
 * is in flight between Redis and the disk, so that a difference now is a real one.
 *
 * Redis has an epoch, the field \`epoch\` of the accounting. A Redis with another epoch than the dlq has seen, or without one
 * and with fewer accepted items, has lost its data: then the accounting is restored from the dlq's last snapshot, and items
 * that are nowhere any more are dropped (\`redis_lost\`). This happens once per epoch: \`epoch:before\` is the lost one.
 *
 * A Redis with the same epoch that lacks the dlq's last report came back with an older state, as after a failover to a replica
 * that lagged. How many items it lacks is unknown: others may have been accepted since.
 *
 * KEYS  1 books  2 depth  3 disk  4 replay outcomes  5 how many of those were forgotten  6 scheduler  7 losses
 * ARGV  1..3 items waiting, items rejected, items accepted without Redis and not yet in the accounting  4 items dropped from
 *       the disk and not yet in the accounting  5 index of the first outcome that the dlq has not processed
 *       6 epoch that it has seen, empty for none  7 epoch for a Redis without one  8 its last snapshot (JSON):
 *       { at, books: { field: items }, paused }
 * Gives { 'same' | 'begun' | 'lost', 'busy' for a loss that is yet to be accounted for because an outcome is in flight, 'older'
 *   for a Redis without the last report, or with fewer accepted items than were seen; epoch, items lost, difference of the
 *   accounting or '' while an outcome is in flight, now in ms, whether replay is paused, live items in Redis, the accounting as
 *   HGETALL gives it }
 */
export const reportDisk = `#!lua flags=allow-oom
${prelude}
expect('HLEN', { KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7] })
expect('LLEN', { KEYS[4] })
local now_ms = clock()
local now = num(now_ms)
local known, fresh, seen = ARGV[6], ARGV[7], cjson.decode(ARGV[8])
local function held(key, field) return tonumber(rcall('HGET', key, field)) or 0 end
local live = 0
for _, stage in ipairs({ 'queued', 'export', 'spill' }) do
  for _, class in ipairs(classes) do live = live + held(KEYS[2], stage .. ':' .. class .. ':items') end
end
local function difference()
  local missing = held(KEYS[1], 'accepted') + tonumber(ARGV[3]) - held(KEYS[1], 'delivered') - live
    - tonumber(ARGV[1]) - tonumber(ARGV[2]) - tonumber(ARGV[4])
  local all = rcall('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 8) == 'dropped:' then missing = missing - (tonumber(all[i+1]) or 0) end
  end
  return missing
end

local settled = tonumber(ARGV[5]) == (tonumber(rcall('GET', KEYS[5])) or 0) + rcall('LLEN', KEYS[4])
local epoch = rcall('HGET', KEYS[1], 'epoch')
local before = tonumber(seen.books and seen.books.accepted) or 0
local state, lost = 'same', 0
if not epoch and (known == '' or held(KEYS[1], 'accepted') >= before) then
  epoch = known == '' and fresh or known
  rcall('HSET', KEYS[1], 'epoch', epoch)
  state = known == '' and 'begun' or 'same'
elseif known ~= '' and epoch ~= known and rcall('HGET', KEYS[1], 'epoch:before') ~= known then
  state = settled and 'lost' or 'busy'
  if settled then
    for field, items in pairs(seen.books) do add(KEYS[1], field, items) end
    local missing = difference()
    if missing > 0 then
      lost = missing
      add(KEYS[1], 'dropped:redis_lost', lost)
    elseif missing < 0 then
      add(KEYS[1], 'accepted', -missing)
    end
    epoch = fresh
    rcall('HSET', KEYS[1], 'epoch', epoch, 'epoch:before', known)
    if seen.paused then rcall('HSET', KEYS[6], 'replay:paused', '1') end
    rcall('HSET', KEYS[7], 'at', now, 'items', num(lost), 'seen_at', num(seen.at))
  end
elseif epoch == known
  and (held(KEYS[1], 'accepted') < before or (tonumber(rcall('HGET', KEYS[3], 'reported')) or now_ms) < (tonumber(seen.at) or 0)) then
  state = 'older'
  rcall('HSET', KEYS[7], 'older_at', now)
end
rcall('HSET', KEYS[3], 'waiting', ARGV[1], 'rejected', ARGV[2], 'unbooked', ARGV[3], 'reported', now)
local stands = ''
if settled then
  stands = num(difference())
  rcall('HSET', KEYS[3], 'difference', stands, 'at', now)
end
return { state, epoch or '', num(lost), stands, now, rcall('HGET', KEYS[6], 'replay:paused') == '1' and '1' or '0', num(live),
  rcall('HGETALL', KEYS[1]) }
`;
