import { prelude } from './prelude.ts';

/**
 * Takes batches whose payloads were SET with a time to live on the same connection just before. The payload
 * becomes permanent in the same step as its job appears, so that a kill in between leaves bytes that expire
 * and nothing else.
 *
 * KEYS  1 depth  2 books  3 wake
 * ARGV  1 prefix  2 now in ms  3 capacity in bytes  4 capacity in items  5 job options (JSON)
 *       then per batch: key, queue, stage and class (`queued:high`), items, bytes, job data (JSON), job name,
 *       `1` if it counts as accepted
 * Gives per batch: 1 queued, 2 held already, 3 payload expired or lost, 4 no room (the payload is removed)
 */
export const enqueue = `${prelude}
local prefix, now, max_bytes, max_items, opts = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local total = rcall('HMGET', KEYS[1], 'total:bytes', 'total:items')
local held_bytes, held_items = tonumber(total[1] or 0), tonumber(total[2] or 0)
local results, accepted, queued = {}, 0, false
for i = 6, #ARGV, 8 do
  local key, queue, stage, items, bytes = ARGV[i], ARGV[i+1], ARGV[i+2], tonumber(ARGV[i+3]), tonumber(ARGV[i+4])
  local payload = prefix .. ':payload:' .. key
  if held_bytes + bytes > max_bytes or held_items + items > max_items then
    if rcall('TTL', payload) >= 0 then rcall('UNLINK', payload) end
    results[#results+1] = 4
  elseif rcall('PERSIST', payload) == 1 then
    put_job(prefix, queue, key, ARGV[i+6], ARGV[i+5], opts, now, 'LPUSH')
    count(stage, 1, items, bytes)
    held_bytes, held_items, queued = held_bytes + bytes, held_items + items, true
    if ARGV[i+7] == '1' then accepted = accepted + items end
    results[#results+1] = 1
  elseif rcall('EXISTS', payload) == 1 then
    results[#results+1] = 2
  else
    results[#results+1] = 3
  end
end
if queued then
  write_depth(KEYS[1])
  if accepted > 0 then rcall('HINCRBY', KEYS[2], 'accepted', num(accepted)) end
  rcall('ZADD', KEYS[3], 0, '0')
end
return results
`;
