import { breaker } from './breaker.ts';
import { prelude } from './prelude.ts';
import { jobRelease } from './release.ts';

/**
 * Settles batches: deletes their payloads, reduces the depth and adds the items to the accounting.
 * Idempotent: whoever deletes a payload counts its batch, so a second call changes nothing.
 * For replayed batches it reports an outcome to the dlq: `done` (the record may be deleted) or `returned` (it must stay).
 *
 * KEYS  1 depth  2 books  3 wake  4 replay outcomes
 * ARGV  1 prefix  2 their stage and class (`export:high`)  3 field of the accounting, empty for none
 *       4 outcome for the dlq: empty, `done`, `returned` or `failed`
 *       5 items of these that the upstream refused in a partial success
 *       6..8 queue, id and lock token of the job to complete, empty for none; a success is then reported to the breaker too,
 *       without another round trip
 *       9..14 breaker options
 *       15 suffix of the outcome, after the key  16 signal  17 epoch of the breaker in which it was sent
 *       18 per batch: key, items, bytes; an array of JSON, as a merged job has hundreds (0.6 µs of the exporter's CPU less for
 *       each batch than as arguments)
 * Gives the number of items settled, whether batches wait for the room that this frees, and whether the breaker has changed
 */
export const settle = `#!lua flags=allow-oom
${prelude}
${breaker}
${jobRelease}
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
local waiting = is_queued(prefix) and 1 or 0
local changed = 0
if ARGV[6] ~= '' then
  complete(prefix, ARGV[6], ARGV[7], ARGV[8])
  local _, has_changed = breaker_report(prefix, ARGV[16], ARGV[17], 'ok', 0, breaker_args(9), '')
  if has_changed then
    changed = 1
    rcall('ZADD', prefix .. ':export:marker', 0, '0')
  end
end
-- Wake the scheduler only if batches wait for the freed room: this saves one of two wake-ups and moves per batch.
if waiting + changed > 0 then rcall('ZADD', KEYS[3], 0, '0') end
return { settled, waiting, changed }
`;
