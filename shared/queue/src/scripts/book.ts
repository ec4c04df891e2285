import { prelude } from './prelude.ts';

/**
 * Adds an entry of the dlq's ledger to the accounting, once: the ids of the last entries are kept, so an entry that is sent
 * again because its answer was lost changes nothing.
 *
 * KEYS  1 books  2 booked: list of entry ids, newest first
 * ARGV  1 id of the entry, then field and items, in turn
 * Gives 1, or 0 if the entry had been added before
 */
export const book = `#!lua flags=allow-oom
${prelude}
expect('HLEN', { KEYS[1] })
if redis.call('LPOS', KEYS[2], ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do add(KEYS[1], ARGV[i], tonumber(ARGV[i+1])) end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], 0, 31)
return 1
`;
