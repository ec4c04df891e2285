/** Redis in each of its forms under TLS, with an ACL user: what is configured is used, and what does not speak TLS is not spoken to. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { type Batch, newBatchId, Store, Taker } from '@nrdot/queue';
import { connect, type RedisTarget, type RedisTls } from '@nrdot/redis';
import { freePort, Process, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OPTIONS as COMMON, MOVE } from './store-on-redis.ts';

const OPTIONS = { ...COMMON, prefix: '{nrdot}', maxBytes: 1e9, maxItems: 1e9 };
const dir = temporaryDirectory();
const at = (file: string) => join(dir.path, file);
/** The user of docs/security.md, and one for the sentinels. */
const USERS = `user nrdot on >word ~{nrdot}:* &* +@all -@dangerous +info +config|get +client +cluster
user replica on >replica-word +psync +replconf +ping
user watcher on >watcher-word allchannels +multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill
user operator on >operator-word +client +config|set +cluster +info
user default off
`;
const SENTINEL_USERS =
  'user asks on >asks-word allchannels -@all +auth +client +hello +ping +subscribe +sentinel';
const USER = { username: 'nrdot', password: 'word' };
const SENTINEL_USER = { sentinelUsername: 'asks', sentinelPassword: 'asks-word' };

/** An authority, and a certificate that is for the name `localhost`, not for an address. */
beforeAll(() => {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir.path, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  for (const ca of ['ca', 'other-ca'])
    openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '2',
      '-subj',
      `/CN=${ca}`,
      '-keyout',
      `${ca}.key`,
      '-out',
      `${ca}.crt`,
    );
  writeFileSync(at('san'), 'subjectAltName=DNS:localhost\n');
  for (const [name, ca] of [
    ['server', 'ca'],
    ['renewed', 'other-ca'],
  ] as const) {
    openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.crt`, '-CAkey', `${ca}.key`, '-CAcreateserial'],
      ...['-days', '2', '-extfile', 'san', '-out', `${name}.crt`],
    );
  }
  writeFileSync(at('users.acl'), USERS);
});
afterAll(() => dir[Symbol.dispose]());

const SERVER_TLS = () => [
  ...['--tls-cert-file', at('server.crt'), '--tls-key-file', at('server.key')],
  ...['--tls-ca-cert-file', at('ca.crt'), '--tls-auth-clients', 'no'],
];

async function server(name: string, ...args: string[]) {
  const [port, own] = [await freePort(), at(name)];
  mkdirSync(own);
  const process = new Process(name, 'redis-server', [
    ...['--port', '0', '--tls-port', String(port), '--bind', '127.0.0.1 -::1', '--dir', own, '--save', ''],
    ...['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction'],
    ...['--aclfile', at('users.acl'), ...SERVER_TLS(), ...args],
  ]);
  await process.line(/Ready to accept connections/);
  return { port, process, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
}

const tls = (more: RedisTls = {}): RedisTls => ({ caFile: at('ca.crt'), ...more });
const open = (target: RedisTarget, kind: 'producer' | 'consumer' = 'consumer') =>
  connect(target, { kind, name: 'test', commandTimeoutMs: 2_000 });
const batch = (): Batch => ({
  id: newBatchId(Date.now()),
  signal: 'traces',
  class: 'high',
  origin: 'live',
  encoding: 'identity',
  items: 10,
  receivedAt: Date.now(),
  payload: Buffer.from('payload'),
});

/** Batches through all kinds of connections: that of a consumer, and its blocking reads. */
async function works(target: RedisTarget): Promise<void> {
  const redis = open(target);
  await waitUntil(async () => (await redis.exists('{nrdot}:x')) === 0, {
    what: 'Redis answered',
    timeoutMs: 20_000,
  });
  const store = new Store(redis, OPTIONS);
  const before = (await store.books()).delivered ?? 0;
  const taker = new Taker({
    store,
    queue: 'export',
    concurrency: 2,
    maxBytes: 1e6,
    faultDelayMs: 20,
    onError: () => {},
    handle: async (job) => void (await store.settle(job.data, 'export', { outcome: 'delivered' }, job.lock)),
  });
  for (let n = 0; n < 10; n++) {
    await store.enqueue([[batch()], [batch()]], Date.now());
    await store.move(MOVE);
  }
  await waitUntil(async () => (await store.books()).delivered === before + 200, {
    what: 'all items were delivered',
  });
  await taker.close(2_000);
  redis.disconnect();
}

/** Why there is no connection. */
async function refusal(target: RedisTarget): Promise<string> {
  const redis = open(target, 'producer');
  try {
    return await new Promise<string>((resolve) => {
      redis.once('ready', () => resolve('connected'));
      redis.on('error', (error: Error & { lastNodeError?: Error }) =>
        resolve(`${error.message} ${error.lastNodeError?.message ?? ''}`),
      );
    });
  } finally {
    redis.disconnect();
  }
}

const WRONG_NAME = /altnames|does not match/i;
const WRONG_CA = /certificate|issuer|signature/i;

describe('under TLS, with an ACL user', () => {
  it('one server: verified by the name of its certificate, or by a configured name', async () => {
    await using redis = await server('alone');
    const url = `rediss://localhost:${redis.port}`;
    await works({ url, ...USER, tls: tls() });
    const byAddress = { url: `rediss://127.0.0.1:${redis.port}`, ...USER };
    expect(await refusal({ ...byAddress, tls: tls() })).toMatch(WRONG_NAME);
    expect(await refusal({ ...byAddress, tls: tls({ serverName: 'elsewhere' }) })).toMatch(WRONG_NAME);
    await works({ ...byAddress, tls: tls({ serverName: 'localhost' }) });
    expect(await refusal({ url, ...USER, tls: { caFile: at('other-ca.crt') } })).toMatch(WRONG_CA);
    expect(await refusal({ url, ...USER })).toMatch(WRONG_CA);
  });

  it('Sentinel, with users of its own', async () => {
    const replication = [
      '--tls-replication',
      'yes',
      '--masteruser',
      'replica',
      '--masterauth',
      'replica-word',
    ];
    await using primary = await server('primary', ...replication, '--replica-announce-ip', 'localhost');
    const port = await freePort();
    const own = at('sentinel');
    mkdirSync(own);
    const file = join(own, 'sentinel.conf');
    writeFileSync(
      file,
      [
        ...['port 0', `tls-port ${port}`, 'bind 127.0.0.1 -::1', `dir ${own}`, 'tls-replication yes'],
        ...[
          `tls-cert-file ${at('server.crt')}`,
          `tls-key-file ${at('server.key')}`,
          `tls-ca-cert-file ${at('ca.crt')}`,
        ],
        ...['tls-auth-clients no', 'sentinel resolve-hostnames yes', 'sentinel announce-hostnames yes'],
        ...[`sentinel monitor mymaster localhost ${primary.port} 1`, 'sentinel auth-user mymaster watcher'],
        ...['sentinel auth-pass mymaster watcher-word', SENTINEL_USERS, 'user default off'],
      ].join('\n'),
    );
    await using sentinel = new Process('sentinel', 'redis-server', [file, '--sentinel']);
    await sentinel.line(/\+monitor/);
    const sentinels = [{ host: 'localhost', port }];
    await works({ sentinels, ...SENTINEL_USER, ...USER, tls: tls() });
    expect(await refusal({ sentinels, ...USER, tls: tls() })).toMatch(/NOAUTH/);
    expect(
      await refusal({ sentinels, ...SENTINEL_USER, sentinelPassword: 'wrong', ...USER, tls: tls() }),
    ).toMatch(/WRONGPASS|NOAUTH/);
    expect(
      await refusal({ sentinels, ...SENTINEL_USER, ...USER, tls: { caFile: at('other-ca.crt') } }),
    ).not.toBe('connected');
    expect(
      await refusal({ sentinels: [{ host: '127.0.0.1', port }], ...SENTINEL_USER, ...USER, tls: tls() }),
    ).not.toBe('connected');
  });

  it('a Cluster whose nodes announce their names', async () => {
    await using redis = await server(
      'node',
      ...['--cluster-enabled', 'yes', '--tls-cluster', 'yes', '--cluster-announce-hostname', 'localhost'],
      ...['--cluster-preferred-endpoint-type', 'hostname'],
    );
    const node = open({ url: `rediss://localhost:${redis.port}`, ...USER, tls: tls() });
    await node.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await waitUntil(async () => String(await node.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), {
      what: 'the cluster is up',
    });
    node.disconnect();
    const cluster = [{ host: 'localhost', port: redis.port }];
    await works({ cluster, ...USER, tls: tls() });
    expect(await refusal({ cluster, ...USER, tls: { caFile: at('other-ca.crt') } })).not.toBe('connected');
  });
});

it.each(['one server', 'a Cluster'] as const)(
  '%s whose CA and certificates are renewed: the connection continues, and the next one uses the new ones',
  async (form) => {
    const use = (name: string, ca: string) => {
      copyFileSync(at(`${name}.crt`), at('used.crt'));
      copyFileSync(at(`${name}.key`), at('used.key'));
      copyFileSync(at(`${ca}.crt`), at('used-ca.crt'));
    };
    use('server', 'ca');
    const isCluster = form === 'a Cluster';
    await using redis = await server(
      `renewal-of-${isCluster ? 'cluster' : 'server'}`,
      ...['--tls-auth-clients', 'yes'],
      ...(isCluster
        ? ['--cluster-enabled', 'yes', '--tls-cluster', 'yes', '--cluster-announce-hostname', 'localhost']
        : []),
      ...(isCluster ? ['--cluster-preferred-endpoint-type', 'hostname'] : []),
    );
    const files = { caFile: at('used-ca.crt'), certFile: at('used.crt'), keyFile: at('used.key') };
    const where = { host: 'localhost', port: redis.port };
    const operator = open({
      url: `rediss://localhost:${redis.port}`,
      username: 'operator',
      password: 'operator-word',
      tls: files,
    });
    if (isCluster) {
      await operator.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
      await waitUntil(
        async () => String(await operator.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
        { what: 'the cluster is up' },
      );
    }
    const connection = open(
      isCluster
        ? { cluster: [where], ...USER, tls: files }
        : { url: `rediss://localhost:${redis.port}`, ...USER, tls: files },
    );
    const count = () => connection.incr('{nrdot}:count');
    expect(await count()).toBe(1);

    use('renewed', 'other-ca');
    const renewed = { cert: at('renewed.crt'), key: at('renewed.key'), ca: at('other-ca.crt') };
    await operator.call(
      'CONFIG',
      ...['SET', 'tls-cert-file', renewed.cert, 'tls-key-file', renewed.key, 'tls-ca-cert-file', renewed.ca],
    );
    const clients = async () =>
      [...String(await operator.call('CLIENT', 'LIST')).matchAll(/^id=(\d+) .*user=nrdot/gm)].map(
        ([, id]) => id!,
      );
    const before = await clients();
    expect(before.length).toBeGreaterThan(0);
    expect(await count()).toBe(2);
    expect(await clients()).toEqual(before);

    expect(await operator.call('CLIENT', 'KILL', 'USER', 'nrdot')).toBe(before.length);
    expect(await count()).toBe(3);
    expect(await clients()).not.toEqual(expect.arrayContaining(before.slice(0, 1)));
    connection.disconnect();
    operator.disconnect();
  },
);

it.each(['url', 'sentinels', 'cluster'] as const)(
  '%s: a server without TLS never sees the password',
  async (form) => {
    let heard = '';
    const plain = createServer((socket) => {
      socket
        .on('error', () => {})
        .on('data', (bytes) => {
          heard += bytes.toString('latin1');
          socket.write('-ERR what?\r\n');
        });
    }).listen(0, '127.0.0.1');
    await once(plain, 'listening');
    const { port } = plain.address() as AddressInfo;
    const where = { host: '127.0.0.1', port };
    const place = {
      url: { url: `redis://127.0.0.1:${port}` },
      sentinels: { sentinels: [where] },
      cluster: { cluster: [where] },
    };
    const redis = open({ ...place[form], ...SENTINEL_USER, ...USER, tls: tls() });
    redis.on('error', () => {});
    await waitUntil(() => heard.length > 0, { what: 'it has a request' });
    expect(heard).not.toMatch(/word|AUTH|nrdot/i);
    redis.disconnect();
    plain.close();
  },
);
