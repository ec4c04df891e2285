import { breaker } from './breaker.ts';

/**
 * Takes one answer of the upstream into the breaker.
 *
 * KEYS  1 breaker  2 wake
 * ARGV  1 prefix  2 kind: ok, failure, quota, auth  3 Retry-After in ms, 0 for none  4..9 breaker options
 * Gives the state after it
 */
export const report = `#!lua flags=allow-oom
${breaker}
local before = redis.call('HGET', KEYS[1], 'state') or 'closed'
local after = breaker_report(ARGV[1], ARGV[2], tonumber(ARGV[3]), breaker_args(4))
if after ~= before then redis.call('ZADD', KEYS[2], 0, '0') end
return after
`;
