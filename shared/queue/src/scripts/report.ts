import { breaker } from './breaker.ts';
import { prelude } from './prelude.ts';

/**
 * Reports one answer of the upstream to the breaker.
 *
 * KEYS  1 breaker  2 wake
 * ARGV  1 prefix  2 signal  3 epoch in which the request was sent, empty for the current one  4 kind, as the breaker counts it
 *       5 Retry-After in ms, 0 for none  6..11 breaker options  12 the upstream's message
 * Gives the state afterwards
 */
export const report = `#!lua flags=allow-oom
${prelude}
${breaker}
local state, changed = breaker_report(ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), breaker_args(6), ARGV[12])
if changed then
  redis.call('ZADD', KEYS[2], 0, '0')
  redis.call('ZADD', ARGV[1] .. ':export:marker', 0, '0')
end
return state
`;
