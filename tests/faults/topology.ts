/** Redis as more than one server: a primary that Sentinel replaces, a Cluster whose slots move. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { RedisTarget } from '@nrdot/redis';
import { freePort, Process, TestRedis, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';

/** The servers that stand behind a stack's one Redis. */
export interface Topology {
  /** Section `redis` of the services' configuration. */
  readonly config: Record<string, unknown>;
  /** The one that the pipeline's keys are on now. */
  readonly primary: TestRedis;
  [Symbol.asyncDispose](): Promise<void>;
}

const DOWN_AFTER_MS = 1_000;
/** Sentinel gives up a failover that takes longer, and waits twice as long before the next. */
const FAILOVER_MS = 20_000;
/** On a machine so busy that Sentinel stops trusting its own clock for 30 s, which happens, and tries again then. */
const PATIENCE_MS = 150_000;
/** A primary that was frozen goes on for so long, beside the one that has taken its place. */
const TWO_PRIMARIES_MS = 700;
const CLUSTER_NODES = 3;
const KEYS_AT_ONCE = 5;
const SLOTS = 16_384;

/** A primary, a replica that has every write before it is acknowledged, and a sentinel. */
export class SentinelRedis implements Topology {
  readonly config: Record<string, unknown>;
  readonly target: RedisTarget;
  readonly #servers: [TestRedis, TestRedis];
  readonly #sentinel: Process;
  readonly #port: number;
  #primary = 0;

  private constructor(servers: [TestRedis, TestRedis], sentinel: Process, port: number) {
    this.#servers = servers;
    this.#sentinel = sentinel;
    this.#port = port;
    this.config = { sentinels: [`127.0.0.1:${port}`], min_replicas: 1 };
    this.target = { sentinels: [{ host: '127.0.0.1', port }], sentinelName: 'mymaster' };
  }

  /** @param refuseWithoutReplica whether Redis itself takes no writes without a replica */
  static async start(dir: string, { refuseWithoutReplica = true } = {}): Promise<SentinelRedis> {
    const refusing = refuseWithoutReplica ? ['--min-replicas-to-write', '1'] : [];
    const server = async (name: string, ...args: string[]) => {
      const own = join(dir, name);
      mkdirSync(own, { recursive: true });
      return TestRedis.start({
        dir: own,
        port: await freePort(),
        args: ['--repl-diskless-sync-delay', '0', ...refusing, ...args],
      });
    };
    const primary = await server('a');
    const replica = await server('b', '--replicaof', '127.0.0.1', String(primary.port));
    const port = await freePort();
    const file = join(dir, 'sentinel.conf');
    writeFileSync(
      file,
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${dir}`,
        `sentinel monitor mymaster 127.0.0.1 ${primary.port} 1`,
        `sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout mymaster ${FAILOVER_MS}`,
      ].join('\n'),
    );
    const sentinel = new Process('redis-sentinel', 'redis-server', [file, '--sentinel']);
    await sentinel.line(/\+slave/);
    const redis = new SentinelRedis([primary, replica], sentinel, port);
    await redis.#untilFollowed();
    return redis;
  }

  get primary(): TestRedis {
    return this.#servers[this.#primary]!;
  }

  /** Takes the primary away, by a kill or a freeze, until the replica has been promoted. @returns the old one's way back */
  async failOver(how: 'SIGKILL' | 'SIGSTOP'): Promise<() => Promise<void>> {
    await this.#untilFollowed();
    const old = this.primary;
    if (how === 'SIGKILL') await old.kill();
    else old.signal('SIGSTOP');
    const next = this.#servers[1 - this.#primary]!;
    await until([next], /role:master/, 'the replica is promoted');
    this.#primary = 1 - this.#primary;
    return async () => {
      await this.#untilSentinelNames(next);
      if (how === 'SIGKILL') await old.start();
      else {
        old.signal('SIGCONT');
        await wait(TWO_PRIMARIES_MS);
      }
      // Sentinel tells it too, some ten seconds later.
      const client = clientOf(old);
      await client.replicaof('127.0.0.1', next.port);
      client.disconnect();
      await this.#untilFollowed();
    };
  }

  /** Freezes the replica until disposed. */
  async withoutReplica(): Promise<AsyncDisposable> {
    await this.#untilFollowed();
    const replica = this.#servers[1 - this.#primary]!;
    replica.signal('SIGSTOP');
    return { [Symbol.asyncDispose]: async () => replica.signal('SIGCONT') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sentinel[Symbol.asyncDispose]();
    for (const server of this.#servers) {
      server.signal('SIGCONT');
      await server[Symbol.asyncDispose]();
    }
  }

  async #untilSentinelNames(server: TestRedis): Promise<void> {
    const client = new Redis(this.#port, '127.0.0.1', { maxRetriesPerRequest: 20 });
    client.on('error', () => {}); // commands say what is wrong
    const named = async () => {
      const address = await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster');
      return Number((address as string[] | null)?.[1]) === server.port;
    };
    try {
      await waitUntil(named, { what: 'Sentinel names the new primary', timeoutMs: PATIENCE_MS, everyMs: 20 });
    } finally {
      client.disconnect();
    }
  }

  /**
   * Waits until one of the two follows the other. Sentinel may have changed them over by itself: on a busy machine a primary
   * can be silent for a second.
   */
  async #untilFollowed(): Promise<void> {
    this.#primary = await until(this.#servers, /role:master.*state=online/s, 'the replica follows');
  }
}

/** Three nodes, each with a third of the slots; the pipeline's keys are all in one of them. */
export class ClusterRedis implements Topology {
  readonly config: Record<string, unknown>;
  readonly #nodes: TestRedis[];
  readonly #ids: string[];
  readonly #slot: number;
  #owner = 0;

  private constructor(nodes: TestRedis[], ids: string[], slot: number, owner: number) {
    this.#nodes = nodes;
    this.#ids = ids;
    this.#slot = slot;
    this.#owner = owner;
    this.config = { cluster: nodes.map(({ port }) => `127.0.0.1:${port}`) };
  }

  static async start(dir: string, prefix: string): Promise<ClusterRedis> {
    const nodes: TestRedis[] = [];
    const buses: number[] = [];
    for (let n = 0; n < CLUSTER_NODES; n++) {
      const own = join(dir, String(n));
      mkdirSync(own, { recursive: true });
      buses.push(await freePort());
      const bus = ['--cluster-announce-ip', '127.0.0.1', '--cluster-port', String(buses[n])];
      const args = ['--cluster-enabled', 'yes', ...bus];
      nodes.push(await TestRedis.start({ dir: own, port: await freePort(), args }));
    }
    const clients = nodes.map(clientOf);
    const share = Math.ceil(SLOTS / nodes.length);
    for (const [n, client] of clients.entries()) {
      const last = Math.min((n + 1) * share, SLOTS) - 1;
      await client.call('CLUSTER', 'ADDSLOTSRANGE', n * share, last);
      if (n > 0) await client.call('CLUSTER', 'MEET', '127.0.0.1', nodes[0]!.port, buses[0]!);
    }
    for (const client of clients)
      await waitUntil(
        async () =>
          /cluster_state:ok[\s\S]*cluster_known_nodes:3/.test(String(await client.call('CLUSTER', 'INFO'))),
        { what: 'the cluster is up', timeoutMs: PATIENCE_MS },
      );
    const ids = await Promise.all(
      clients.map(async (client) => String(await client.call('CLUSTER', 'MYID'))),
    );
    const slot = Number(await clients[0]!.call('CLUSTER', 'KEYSLOT', prefix));
    for (const client of clients) client.disconnect();
    return new ClusterRedis(nodes, ids, slot, Math.floor(slot / share));
  }

  get primary(): TestRedis {
    return this.#nodes[this.#owner]!;
  }

  /** Moves the pipeline's slot to the next node, key by key, while it is being written to. */
  async moveSlot(): Promise<void> {
    await this.beginMove();
    await this.endMove();
  }

  /** From here on keys may be moved, and new ones are made on the next node. */
  async beginMove(): Promise<void> {
    await this.#setSlot(this.#next, 'IMPORTING', this.#ids[this.#owner]!);
    await this.#setSlot(this.#owner, 'MIGRATING', this.#ids[this.#next]!);
  }

  async moveKeys(keys: readonly string[]): Promise<void> {
    const target = ['127.0.0.1', this.#nodes[this.#next]!.port, '', 0, 10_000];
    await this.#ask(this.#owner, 'MIGRATE', ...target, 'KEYS', ...keys);
  }

  /** Moves all keys that are left, and gives the slot to its new owner. */
  async endMove(): Promise<void> {
    while (true) {
      const keys = await this.#ask(this.#owner, 'CLUSTER', 'GETKEYSINSLOT', this.#slot, KEYS_AT_ONCE);
      if ((keys as string[]).length === 0) break;
      await this.moveKeys(keys as string[]);
    }
    const [from, to] = [this.#owner, this.#next];
    const others = this.#nodes.map((_, n) => n).filter((n) => n !== to && n !== from);
    for (const node of [to, from, ...others]) await this.#setSlot(node, 'NODE', this.#ids[to]!);
    this.#owner = to;
  }

  get #next(): number {
    return (this.#owner + 1) % this.#nodes.length;
  }

  async #setSlot(node: number, ...args: string[]): Promise<void> {
    await this.#ask(node, 'CLUSTER', 'SETSLOT', this.#slot, ...args);
  }

  async #ask(node: number, command: string, ...args: (string | number)[]): Promise<unknown> {
    const client = clientOf(this.#nodes[node]!);
    try {
      return await client.call(command, ...args);
    } finally {
      client.disconnect();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes) await node[Symbol.asyncDispose]();
  }
}

function clientOf({ url }: TestRedis): Redis {
  const client = new Redis(url, { maxRetriesPerRequest: 20 });
  client.on('error', () => {}); // commands say what is wrong
  return client;
}

/** @returns which of the servers says so */
async function until(servers: readonly TestRedis[], pattern: RegExp, what: string): Promise<number> {
  const clients = servers.map(clientOf);
  let said: string[] = [];
  const holds = async () => {
    said = await Promise.all(clients.map((client) => client.info('replication')));
    return said.some((text) => pattern.test(text));
  };
  try {
    await waitUntil(holds, { what, timeoutMs: PATIENCE_MS, everyMs: 20 });
  } catch (error) {
    const all = said.join(' and ').replace(/\s+/g, ' ');
    throw new Error(`${(error as Error).message}; Redis says: ${all}`, { cause: error });
  } finally {
    for (const client of clients) client.disconnect();
  }
  return said.findIndex((text) => pattern.test(text));
}
