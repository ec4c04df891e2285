/**
 * Publishes the status of a process. A new process also removes entries of ended ones, so that the hash stays small; the hash
 * expires when nobody reports any more. Runs even if Redis is out of memory: that is when people look.
 *
 * KEYS  1 status: hash of instance → "unix-ms JSON"
 * ARGV  1 instance  2 JSON  3 how long it is kept, in ms
 */
export const publish = `#!lua flags=allow-oom
local time = redis.call('TIME')
local now, kept = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[3])
local new = redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], kept)
if new == 0 then return 0 end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i+1], '^(%d+) ') or 0)
  if at < now - kept then redis.call('HDEL', KEYS[1], all[i]) end
end
return 1
`;
