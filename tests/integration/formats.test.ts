/** What older versions left behind is read: a queue in Redis and segments on disk, of every format version there was. */
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '@nrdot/redis';
import { startMockUpstream, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { load } from '../formats/redis-keys.ts';
import { accounting, startServices } from '../kit.ts';

const FORMATS = fileURLToPath(new URL('../formats/', import.meta.url));
const NEVER = '876000h';

async function delivered(kind: 'redis' | 'segments', fixture: string): Promise<string[]> {
  using dir = temporaryDirectory();
  await using redis = await TestRedis.start({ dir: dir.path });
  const mock = await startMockUpstream({ listen: '127.0.0.1:0', keep: 50 });
  await using _closed = { [Symbol.asyncDispose]: () => mock.close() };
  const disk = join(dir.path, 'disk');
  if (kind === 'segments') cpSync(join(FORMATS, fixture), disk, { recursive: true });
  else {
    const client = connect({ url: redis.url }, { kind: 'consumer', name: 'test', commandTimeoutMs: 5_000 });
    await load(client, JSON.parse(readFileSync(join(FORMATS, fixture), 'utf8')));
    client.disconnect();
  }
  await using running = await startServices(dir.path, redis, mock, {
    dlq: { dir: disk, retention: NEVER, rejected_retention: NEVER },
  });
  await waitUntil(() => mock.kept().length > 0 && names(mock.kept()).length === 6, {
    what: 'all six spans arrived',
    timeoutMs: 40_000,
  });
  await waitUntil(
    async () => {
      const { queued, on_disk } = await accounting(running.admin);
      return queued === 0 && on_disk === 0;
    },
    { what: 'nothing is queued', timeoutMs: 30_000 },
  );
  return names(mock.kept()).sort();
}

/** Names of spans, found in the bytes of the requests: they are ASCII, and nothing else looks like them. */
function names(kept: readonly { body: Uint8Array }[]): string[] {
  return kept.flatMap(({ body }) =>
    [
      ...Buffer.from(body)
        .toString('latin1')
        .matchAll(/(?:queued|on-disk)-[a-z]+-\d/g),
    ].map(([name]) => name),
  );
}

const expected = (kind: string) =>
  ['critical', 'high', 'normal'].flatMap((priority) => [`${kind}-${priority}-1`, `${kind}-${priority}-2`]);

describe('data of an older version', () => {
  const fixtures = readdirSync(FORMATS);
  it.each(fixtures.filter((name) => name.startsWith('redis-v')))(
    'in Redis is delivered: %s',
    async (fixture) => {
      expect(await delivered('redis', fixture)).toEqual(expected('queued'));
    },
  );

  it.each(fixtures.filter((name) => name.startsWith('segments-v')))(
    'on disk is delivered: %s',
    async (fixture) => {
      expect(await delivered('segments', fixture)).toEqual(expected('on-disk'));
    },
  );
});
