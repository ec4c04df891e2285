import { Cluster } from 'ioredis';
import type { RedisConnection } from './connection.ts';

/** Defines a script as a command; on a Cluster it refuses to run while its slot is being migrated. */
export function defineScript(redis: RedisConnection, name: string, numberOfKeys: number, lua: string): void {
  redis.defineCommand(name, { numberOfKeys, lua: redis instanceof Cluster ? inOneSlot(lua) : lua });
}

/**
 * Makes a script atomic on a Redis Cluster while its slot is being migrated. Keys migrate one by one, and a script that needs
 * one that has left would fail half-way, losing ids that it has popped by then. So it first reads two keys that never exist:
 * Redis answers if the slot is stable and refuses on both nodes while it migrates, before the script has changed anything.
 */
function inOneSlot(script: string): string {
  const head = /^#!.*\n/.exec(script)?.[0] ?? '';
  return `${head}redis.call('EXISTS', KEYS[1] .. ':at', KEYS[1] .. ':rest')\n${script.slice(head.length)}`;
}
