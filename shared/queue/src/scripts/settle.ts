import { breaker } from './breaker.ts';
import { leaving } from './leave.ts';
import { prelude } from './prelude.ts';

/**
 * Ends the pipeline's hold on batches: their payloads go, the depth shrinks, the books say what became of them.
 * Idempotent: a batch is counted by whoever removes its payload, so a second call changes nothing.
 * What came from the dlq's disk is reported back to it: `done` (the record may go) or `returned` (it may not).
 *
 * KEYS  1 depth  2 books  3 wake  4 replay outcomes
 * ARGV  1 prefix  2 stage and class they leave (`export:high`)  3 field of the books, empty for none
 *       4 empty, `done`, `returned` or `failed`: what the dlq is told
 *       5 items of these that the upstream refused in a partial success
 *       6..8 queue, id and lock token of the job that ends with it, empty for none: it is completed, and the breaker
 *       learns of a good answer, without another round trip
 *       9..14 breaker options
 *       15 what follows the key in what the dlq is told  16 signal  17 epoch of the breaker in which it was sent
 *       18 per batch: key, items, bytes; an array of JSON, as a merged job has hundreds (0.6 µs of the exporter's CPU less for
 *       each batch than as arguments)
 * Gives the number of items settled, whether something waits for the room there is now, and whether the breaker has
 * changed
 */
export const settle = `#!lua flags=allow-oom
${prelude}
${breaker}
${leaving}
local prefix, stage, field, verdict = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
expect('HLEN', { KEYS[1], KEYS[2], prefix .. ':signals' })
expect('ZCARD', { KEYS[3] })
expect('LLEN', { KEYS[4] })
if ARGV[6] ~= '' then
  expect('LLEN', { prefix .. ':' .. ARGV[6] .. ':active' })
  expect('HLEN', { prefix .. ':breaker:' .. ARGV[16] })
  expect('ZCARD', { prefix .. ':export:marker' })
  expect('GET', { prefix .. ':' .. ARGV[6] .. ':' .. ARGV[7] .. ':lock' })
end
local settled = 0
local batches = cjson.decode(ARGV[18])
local gone, seen = {}, {}
for i = 1, #batches, 3 do
  local payload = prefix .. ':payload:' .. batches[i]
  if not seen[payload] and is_held(payload) then
    seen[payload] = true
    gone[#gone+1] = payload
    count(stage, -1, -batches[i+1], -batches[i+2])
    settled = settled + batches[i+1]
    if verdict ~= '' then rcall('RPUSH', KEYS[4], verdict .. ' ' .. batches[i] .. ARGV[15]) end
  end
end
unlink_all(gone)
write_depth(KEYS[1])
if settled > 0 and field ~= '' then
  local refused = math.min(tonumber(ARGV[5]), settled)
  add(KEYS[2], field, settled - refused)
  if refused > 0 then add(KEYS[2], 'dropped:partial_success', refused) end
end
local waiting = rcall('EXISTS', prefix .. ':critical:wait', prefix .. ':high:wait', prefix .. ':normal:wait',
  prefix .. ':replay-critical:wait', prefix .. ':replay-high:wait', prefix .. ':replay-normal:wait')
if waiting == 0 then waiting = tonumber(rcall('HGET', prefix .. ':signals', 'aside')) or 0 end
local changed = 0
if ARGV[6] ~= '' then
  complete(prefix, ARGV[6], ARGV[7], ARGV[8])
  local _, has_changed = breaker_report(prefix, ARGV[16], ARGV[17], 'ok', 0, breaker_args(9), '')
  if has_changed then
    changed = 1
    rcall('ZADD', prefix .. ':export:marker', 0, '0')
  end
end
-- Room is of use only when something waits for it: without this, each batch costs the scheduler a second look
-- (measured: one of its two wake-ups and moves per batch).
if waiting + changed > 0 then rcall('ZADD', KEYS[3], 0, '0') end
return { settled, waiting, changed }
`;
