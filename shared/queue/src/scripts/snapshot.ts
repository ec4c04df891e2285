import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/** Limits of one call, which then takes some 40 ms of Redis' time. */
export const SNAPSHOT_JOBS_MAX = 1_000;
export const SNAPSHOT_BATCHES_MAX = 10_000;

/**
 * Reads the depth and parts of lists and sorted sets of jobs as one consistent snapshot.
 *
 * KEYS  1 depth
 * ARGV  1 prefix, then for each part: queue, list or set, first and last index
 * Gives { depth as HGETALL gives it, parts … }; a part is { its length, or -1 for a key of another type, jobs … }, a job is
 *   { id, what is odd about it ('' for nothing), depth field without its unit, batches, held, items and bytes of those that
 *   are held, whether it is locked, keys of the held batches … }. A part that hits the limits has fewer jobs than were asked for.
 */
export const snapshot = `#!lua flags=no-writes
${prelude}
${jobs}
local prefix = ARGV[1]
local all = redis.pcall('HGETALL', KEYS[1])
local result = { all.err and {} or all }
local jobs_left, batches_left = ${SNAPSHOT_JOBS_MAX}, ${SNAPSHOT_BATCHES_MAX}
local function seen(queue, id)
  local job, why = read_job(prefix, queue, id)
  if not job then return { id, why } end
  local one = { id, '', stage_of(queue, job), #job.batches, 0, 0, 0, rcall('EXISTS', prefix .. ':' .. queue .. ':' .. id .. ':lock') }
  for _, batch in ipairs(job.batches) do
    if is_held(prefix .. ':payload:' .. batch.key) then
      one[5], one[6], one[7] = one[5] + 1, one[6] + batch.items, one[7] + batch.bytes
      one[#one+1] = batch.key
    end
  end
  batches_left = batches_left - #job.batches
  return one
end
for i = 2, #ARGV, 4 do
  local key = prefix .. ':' .. ARGV[i] .. ':' .. ARGV[i+1]
  local length = redis.pcall('LLEN', key)
  local ids = {}
  if type(length) == 'number' then
    ids = rcall('LRANGE', key, ARGV[i+2], ARGV[i+3])
  else
    length = redis.pcall('ZCARD', key)
    if type(length) == 'number' then ids = rcall('ZRANGE', key, ARGV[i+2], ARGV[i+3]) else length = -1 end
  end
  local part = { length }
  for _, id in ipairs(ids) do
    if jobs_left <= 0 or batches_left <= 0 then break end
    jobs_left = jobs_left - 1
    part[#part+1] = seen(ARGV[i], id)
  end
  result[#result+1] = part
end
return result
`;
