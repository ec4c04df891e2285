/**
 * Makes a script whole or nothing on a Redis Cluster whose slot is being moved. Keys move one by one then, and a script
 * that comes upon one that has left fails in the middle of what it does: what it has popped from a list by then is lost.
 * Two keys that never exist are the test: Redis answers for them where the slot is at rest, and refuses them, before the
 * script has done anything, on both nodes while it is on its way.
 */
export function inOneSlot(script: string): string {
  const head = /^#!.*\n/.exec(script)?.[0] ?? '';
  return `${head}redis.call('EXISTS', KEYS[1] .. ':at', KEYS[1] .. ':rest')\n${script.slice(head.length)}`;
}
