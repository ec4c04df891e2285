import { prelude } from './prelude.ts';

/**
 * Hands batches over from a job to new jobs, in one step: to the spill queue, in smaller pieces back to the export queue, or
 * from the spill queue back to the class queue.
 * The payload gets a new key, so that the old job finds nothing if it runs again after a crash. A replayed batch belongs to
 * Redis from here on, which is reported to the dlq.
 *
 * KEYS  1 depth  2 books  3 replay outcomes  4 wake
 * ARGV  1 prefix  2 now in ms  3 job options (JSON)  4 the order (JSON):
 *       { from: "export:high", replay: bool, book: "spilled", push: "LPUSH" | "RPUSH", old: [{key, items, bytes}],
 *         jobs: [{ id, queue, name, stage: "spill:high", data: "<JSON>", batches: [{key, items, bytes, old?}] }] }
 *       A new batch with \`old\` takes over that payload by RENAME; one without was SET with a TTL before.
 * Gives the number of jobs created; 0 if the old payloads were gone already; -1, and nothing changed, if a new payload is
 * missing
 */
export const handOver = `#!lua flags=allow-oom
${prelude}
local prefix, now, opts, order = ARGV[1], ARGV[2], ARGV[3], cjson.decode(ARGV[4])
expect('HLEN', { KEYS[1], KEYS[2], prefix .. ':signals' })
expect('LLEN', { KEYS[3] })
expect('ZCARD', { KEYS[4] })
for _, job in ipairs(order.jobs) do
  expect('HLEN', { prefix .. ':' .. job.queue .. ':meta' })
  expect('LLEN', { prefix .. ':' .. job.queue .. ':wait' })
  expect('ZCARD', { prefix .. ':' .. job.queue .. ':marker' })
end
local function payload(key) return prefix .. ':payload:' .. key end
for _, job in ipairs(order.jobs) do
  for _, batch in ipairs(job.batches) do
    if not batch.old and rcall('EXISTS', payload(batch.key)) == 0 then return -1 end
  end
end
local held = {}
local any = false
for _, old in ipairs(order.old) do
  if is_held(payload(old.key)) then
    held[old.key], any = true, true
    count(order.from, -1, -old.items, -old.bytes)
    if order.replay then rcall('RPUSH', KEYS[3], 'done ' .. old.key) end
  end
end
local made, items = 0, 0
for _, job in ipairs(order.jobs) do
  local live, bytes = false, 0
  for _, batch in ipairs(job.batches) do
    local taken = false
    if batch.old then
      if held[batch.old] then
        rcall('RENAME', payload(batch.old), payload(batch.key))
        held[batch.old] = nil
        taken = true
      end
    elseif any then
      taken = rcall('PERSIST', payload(batch.key)) == 1
    elseif not is_held(payload(batch.key)) then
      -- Held: this order was executed before, and its answer was lost.
      rcall('UNLINK', payload(batch.key))
    end
    if taken then
      count(job.stage, 1, batch.items, batch.bytes)
      items, bytes, live = items + batch.items, bytes + batch.bytes, true
    end
  end
  if live and put_job(prefix, job.queue, job.id, job.name, job.data, opts, now, order.push) then
    made = made + 1
    if job.queue == 'export' then count_export(prefix, job.id, job.name, bytes)
    elseif job.queue ~= 'spill' then tell('waiting:' .. job.name, 1) end
    if job.queue == 'export' or job.queue == 'spill' then wake_workers(prefix, job.queue) end
  end
end
for key in pairs(held) do rcall('UNLINK', payload(key)) end
write_depth(KEYS[1])
write_tally(prefix)
if items > 0 and order.book ~= '' then add(KEYS[2], order.book, items) end
rcall('ZADD', KEYS[4], 0, '0')
return made
`;
