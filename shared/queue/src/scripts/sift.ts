import { jobs } from './jobs.ts';
import { prelude } from './prelude.ts';

/**
 * Removes jobs that are not the pipeline's from a queue of BullMQ's worker, which fails on data that is not JSON before it can
 * report it and takes the same job again and again.
 *
 * KEYS  1 wait  2 active
 * ARGV  1 prefix  2 queue  3 now in ms  4 maximum number of jobs to read per list
 * Gives a line for each job that went to the failed set
 */
export const sift = `#!lua flags=allow-oom
${prelude}
${jobs}
for _, list in ipairs(KEYS) do
  for _, id in ipairs(rcall('LRANGE', list, -tonumber(ARGV[4]), -1)) do
    local job, why = read_job(ARGV[1], ARGV[2], id)
    if not job then
      rcall('LREM', list, -1, id)
      rcall('UNLINK', ARGV[1] .. ':' .. ARGV[2] .. ':' .. id .. ':lock')
      fail_job(ARGV[1], ARGV[2], id, why, tonumber(ARGV[3]))
    end
  end
end
return odd
`;
