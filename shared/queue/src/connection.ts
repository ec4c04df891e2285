import { readFileSync } from 'node:fs';
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';

export interface RedisTls {
  caFile?: string;
  certFile?: string;
  keyFile?: string;
  /** The name that certificates have to be for; the one by which a server is reached when absent. */
  serverName?: string;
  insecureSkipVerify?: boolean;
}

/** Where Redis is. One of `url` (redis://, rediss://, unix://), `sentinels` or `cluster`. */
export interface RedisTarget {
  url?: string;
  sentinels?: { host: string; port: number }[];
  sentinelName?: string;
  /** Of the sentinels, which have users of their own. */
  sentinelUsername?: string;
  sentinelPassword?: string;
  cluster?: { host: string; port: number }[];
  username?: string;
  password?: string;
  /** Given: TLS or no connection, to servers and sentinels. */
  tls?: RedisTls;
}

export type RedisConnection = Redis | Cluster;

/** Says which Redis without its password. */
export function describeTarget(target: RedisTarget): string {
  const list = (nodes: { host: string; port: number }[]) =>
    nodes.map((n) => `${n.host}:${n.port}`).join(', ');
  if (target.cluster) return `cluster ${list(target.cluster)}`;
  if (target.sentinels) return `sentinel ${target.sentinelName ?? 'mymaster'} at ${list(target.sentinels)}`;
  if (!target.url) return 'redis';
  if (target.url.startsWith('unix:') || target.url.startsWith('/')) return target.url;
  try {
    const url = new URL(target.url);
    return `${url.protocol}//${url.host}${url.pathname === '/' ? '' : url.pathname}`;
  } catch {
    return 'redis';
  }
}

/**
 * What a connection is for decides how it fails.
 * - `producer`: a client waits for the answer, so fail within `commandTimeoutMs` and let the client retry.
 * - `consumer`: nobody waits, so a command goes out again on the next connection, for as long as it takes. Never a command
 *   timeout: a blocking read would inherit it.
 *
 * Neither waits on a peer that says nothing: one that leaves something unanswered for `commandTimeoutMs` is taken for gone,
 * as a host that lost its power or a firewall that forgot the connection would leave it, and the connection is replaced.
 */
export type ConnectionKind = 'producer' | 'consumer';

const RECONNECT_MAX_MS = 2_000;
/** Longest blocking read: what a wake signal that got lost costs at most, and how much later silence is noticed. */
export const BLOCK_MAX_MS = 2_000;

/** A connection is given up before the commands on it, so that whoever hears of one knows of the other. */
const GIVEN_UP_FIRST_MS = 250;

export interface ConnectOptions {
  kind: ConnectionKind;
  name: string;
  commandTimeoutMs: number;
  /** Called once per state change, lost or back, and when what keeps it lost is another thing than before. */
  onState?(state: 'ready' | 'lost', error?: Error): void;
}

/** How long the other side may leave something unanswered before it is taken for gone. */
export function silenceMaxMs({
  kind,
  commandTimeoutMs,
}: Pick<ConnectOptions, 'kind' | 'commandTimeoutMs'>): number {
  return commandTimeoutMs + (kind === 'consumer' ? BLOCK_MAX_MS : 0);
}

/** Opens a connection; it connects in the background and reconnects by itself, for ever. */
export function connect(target: RedisTarget, options: ConnectOptions): RedisConnection {
  const common: RedisOptions = {
    connectionName: `nrdot-${options.name}`,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), RECONNECT_MAX_MS),
    reconnectOnError: (error) => error.message.startsWith('READONLY'), // a failed-over primary
    connectTimeout: options.commandTimeoutMs,
    socketTimeout: silenceMaxMs(options),
    ...(options.kind === 'producer'
      ? {
          enableOfflineQueue: false,
          // What is in flight fails with its connection, and nothing goes out on one that is about to be given up.
          maxRetriesPerRequest: 0,
          autoResendUnfulfilledCommands: false,
          commandTimeout: options.commandTimeoutMs + GIVEN_UP_FIRST_MS,
        }
      : { maxRetriesPerRequest: null }),
    ...(target.username ? { username: target.username } : {}),
    ...(target.password ? { password: target.password } : {}),
    ...(target.tls ? { tls: tlsOptions(target.tls) } : {}),
  };
  const connection = open(target, common, options.kind);
  let last: 'ready' | 'lost' | undefined;
  let cause: Error | undefined;
  let lastCause: string | undefined;
  const report = (state: 'ready' | 'lost', error?: Error) => {
    if (state === last && (error === undefined || error.message === lastCause)) return;
    last = state;
    lastCause = error?.message;
    options.onState?.(state, error);
  };
  let refusal: RedisRefusal | undefined;
  onRefusal(connection, (error) => {
    refusal = error;
  });
  connection.on('ready', () => {
    refusal = undefined;
    cause = undefined;
    report('ready');
  });
  connection.on('error', (error: Error) => {
    cause = error.message.startsWith('Socket timeout')
      ? new Error(`no answer within ${silenceMaxMs(options) / 1000} s`)
      : error;
  });
  connection.on('close', () => report('lost', refusal ?? cause));
  return connection;
}

/** What Redis says instead of serving: to everything without a password, or unasked, before it closes the connection. */
export class RedisRefusal extends Error {
  constructor(line: string) {
    super(refusalText(line));
    this.name = 'RedisRefusal';
  }
}

const REFUSAL_WORDS: Readonly<Record<string, string>> = {
  NOAUTH: 'it asks for a password, and none is configured (redis.url or redis.password)',
  WRONGPASS: 'it does not take the configured user and password',
  DENIED: 'it is in protected mode: it serves its own machine alone until it has a password',
};

/** A reply's error in words, where its code has some. */
export function refusalText(line: string): string {
  const code = /^[A-Z]+/.exec(line)?.[0] ?? '';
  return Object.hasOwn(REFUSAL_WORDS, code) ? `${code}: ${REFUSAL_WORDS[code]}` : line;
}

const REFUSAL_MAX_BYTES = 512;

/**
 * Listens for a refusal in the first words of each connection. It belongs to no command, so the client drops it, and what
 * is left is a connection that closes, or a write that finds it closed.
 */
function onRefusal(connection: RedisConnection, tell: (error: RedisRefusal) => void): void {
  if (connection instanceof Cluster) {
    connection.on('+node', (node: Redis) => onRefusal(node, tell));
    return;
  }
  connection.on('connect', () =>
    connection.stream.once('data', (bytes: Buffer) => {
      const line = bytes.subarray(0, REFUSAL_MAX_BYTES).toString().split('\r\n', 1)[0] ?? '';
      // A server that is older than HELLO says that of it, and goes on.
      if (line.startsWith('-') && !/unknown command|NOPROTO/i.test(line))
        tell(new RedisRefusal(line.slice(1)));
    }),
  );
}

function open(target: RedisTarget, common: RedisOptions, kind: ConnectionKind): RedisConnection {
  if (target.cluster) {
    const { retryStrategy, ...redisOptions } = common;
    const clusterOptions: ClusterOptions = {
      redisOptions,
      // Nodes are reached by the names that they are configured with and announce, which are those of their certificates.
      dnsLookup: (name, callback) => callback(null, name),
      enableOfflineQueue: kind === 'consumer',
      ...(retryStrategy
        ? { clusterRetryStrategy: (attempt: number) => retryStrategy(attempt) as number }
        : {}),
    };
    return new Cluster(target.cluster, clusterOptions);
  }
  if (target.sentinels) {
    return new Redis({
      ...common,
      sentinels: target.sentinels,
      name: target.sentinelName ?? 'mymaster',
      sentinelCommandTimeout: common.connectTimeout,
      ...(target.sentinelUsername ? { sentinelUsername: target.sentinelUsername } : {}),
      ...(target.sentinelPassword ? { sentinelPassword: target.sentinelPassword } : {}),
      ...(common.tls ? { sentinelTLS: common.tls, enableTLSForSentinelMode: true } : {}),
    });
  }
  const url = target.url ?? 'redis://127.0.0.1:6379';
  if (url.startsWith('unix://')) return new Redis({ ...common, path: url.slice('unix://'.length) });
  if (url.startsWith('/')) return new Redis({ ...common, path: url });
  return new Redis(url, common);
}

/** Getters: each new connection has what is in the files then, so that renewed certificates are used. */
function tlsOptions({ caFile, certFile, keyFile, serverName, insecureSkipVerify }: RedisTls) {
  const options = {
    rejectUnauthorized: !insecureSkipVerify,
    ...(serverName ? { servername: serverName } : {}),
  };
  for (const [name, file] of Object.entries({ ca: caFile, cert: certFile, key: keyFile })) {
    if (!file) continue;
    let last = readFileSync(file);
    Object.defineProperty(options, name, {
      enumerable: true,
      get: () => {
        try {
          last = readFileSync(file);
        } catch {
          // It is being replaced: the last one is good until then.
        }
        return last;
      },
    });
  }
  return options;
}
