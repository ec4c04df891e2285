import { prelude } from './prelude.ts';

/**
 * Books an entry of the dlq's ledger, once: the names of the last entries are remembered, and one whose answer got lost
 * and which comes again changes nothing.
 *
 * KEYS  1 books  2 booked: list of the names of entries, newest first
 * ARGV  1 name of the entry, then field and items, in turn
 * Gives 1, or 0 when it was booked before
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
