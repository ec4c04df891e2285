/**
 * Writes the fixtures of the present format version: what a pipeline without exporters left in Redis, and what a dlq
 * left on disk. Run by hand, once per format version: the fixtures of older ones are never written again.
 */
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '@nrdot/redis';
import { startNrdot, TestRedis, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { writeConfig } from '../kit.ts';
import { dump } from './redis-keys.ts';

const here = fileURLToPath(new URL('./', import.meta.url));
const CLASSES = ['critical', 'high', 'normal'] as const;
const request = (priority: string, names: string[]) =>
  JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: [{ key: 'nrdot.priority', value: { stringValue: priority } }] },
        scopeSpans: [
          {
            spans: names.map((name, i) => ({
              traceId: '0123456789abcdef0123456789abcdef',
              spanId: `00000000000000${String(i + 1).padStart(2, '0')}`,
              name,
            })),
          },
        ],
      },
    ],
  });

async function send(otlp: string, kind: string): Promise<void> {
  for (const priority of CLASSES) {
    const answer = await fetch(`${otlp}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: request(priority, [`${kind}-${priority}-1`, `${kind}-${priority}-2`]),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  }
}

using dir = temporaryDirectory();
{
  await using redis = await TestRedis.start({ dir: dir.path });
  const file = writeConfig(dir.path, { redis: { url: redis.url } });
  await using receiver = startNrdot(['receiver', '--config', file], {}, dir.path);
  const [, address = ''] = await receiver.line(/"address":"([^"]+)","msg":"receiving/);
  await waitUntil(() => send(`http://${address}`, 'queued').then(() => true), {
    what: 'it took the batches',
  });
  const client = connect({ url: redis.url }, { kind: 'consumer', name: 'make', commandTimeoutMs: 5_000 });
  writeFileSync(join(here, 'redis-v1.json'), `${JSON.stringify(await dump(client, '{nrdot}'), null, 1)}\n`);
  client.disconnect();
}
{
  // Without Redis the receiver hands everything to the dlq.
  const disk = join(dir.path, 'disk');
  const away = { url: 'redis://127.0.0.1:1' };
  const file = writeConfig(dir.path, { redis: away, dlq: { listen: '127.0.0.1:0', dir: disk } });
  const dlq = startNrdot(['dlq', '--config', file], {}, dir.path);
  const [, intake = ''] = await dlq.line(/"direct":"([^"]+)"/);
  const second = writeConfig(dir.path, { redis: away, dlq: { url: `http://${intake}` } });
  await using receiver = startNrdot(['receiver', '--config', second], {}, dir.path);
  const [, address = ''] = await receiver.line(/"address":"([^"]+)","msg":"receiving/);
  await send(`http://${address}`, 'on-disk');
  await dlq.end('SIGTERM', 60_000);
  rmSync(join(here, 'segments-v1'), { recursive: true, force: true });
  mkdirSync(join(here, 'segments-v1'));
  cpSync(disk, join(here, 'segments-v1'), { recursive: true });
}
