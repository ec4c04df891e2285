import { readFileSync } from 'node:fs';
import { Cluster, Redis, type RedisOptions } from 'ioredis';

export interface RedisTls {
  caFile?: string;
  certFile?: string;
  keyFile?: string;
  /** Host name that certificates are checked for; by default the one used to connect. */
  serverName?: string;
  insecureSkipVerify?: boolean;
}

/** The address of Redis: one of `url` (redis://, rediss://, unix://), `sentinels` or `cluster`. */
export interface RedisTarget {
  url?: string;
  sentinels?: { host: string; port: number }[];
  sentinelName?: string;
  /** For the sentinels, which have users of their own. */
  sentinelUsername?: string;
  sentinelPassword?: string;
  cluster?: { host: string; port: number }[];
  username?: string;
  password?: string;
  /** If set, connections to servers and sentinels require TLS. */
  tls?: RedisTls;
}

export type RedisConnection = Redis | Cluster;

/** Closes a connection for good; commands in its queue are rejected. */
export function disconnect(connection: RedisConnection): void {
  // While ioredis waits to reconnect, disconnecting would cancel its timer and never reject the commands in its queue.
  if (connection.status === 'reconnecting') connection.connect().catch(() => {});
  connection.disconnect();
}

/** The address for people, without the password. */
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
 * The purpose of a connection decides how it fails.
 * - `producer`: a client waits for the answer, so a command fails within `commandTimeoutMs` and the client retries.
 * - `consumer`: nobody waits, so a command is sent again on each new connection until it succeeds. It has no command timeout,
 * which would apply to blocking reads too.
 *
 * Neither waits for a silent peer: if a command gets no answer within `commandTimeoutMs`, as after a power failure of the host
 * or with a firewall that dropped the connection, the connection is replaced.
 */
export type ConnectionKind = 'producer' | 'consumer';

const RECONNECT_MAX_MS = 2_000;
/** Maximum time of a blocking read: bounds the delay after a lost wake signal, and how late silence is noticed. */
export const BLOCK_MAX_MS = 2_000;

/** A connection is replaced so much earlier than its commands time out: whoever sees a timeout also sees the reason. */
const GIVEN_UP_FIRST_MS = 250;

export interface ConnectOptions {
  kind: ConnectionKind;
  name: string;
  commandTimeoutMs: number;
  /** Called once per change of state, and when the reason for `lost` changes. */
  onState?(state: 'ready' | 'lost', error?: Error): void;
}

/** How long a command may stay unanswered before the connection is replaced. */
export function silenceMaxMs(options: Pick<ConnectOptions, 'kind' | 'commandTimeoutMs'>): number {
  return options.commandTimeoutMs + (options.kind === 'consumer' ? BLOCK_MAX_MS : 0);
}

/** Opens a connection in the background; it reconnects by itself for ever. */
export function connect(target: RedisTarget, options: ConnectOptions): RedisConnection {
  const common: RedisOptions = {
    connectionName: `nrdot-${options.name}`,
    retryStrategy: retryInMs,
    reconnectOnError: (error) => error.message.startsWith('READONLY'), // a failed-over primary
    connectTimeout: options.commandTimeoutMs,
    socketTimeout: silenceMaxMs(options),
    ...(options.kind === 'producer'
      ? {
          enableOfflineQueue: false,
          // A command in flight fails together with its connection, and none is sent on a connection that is being replaced.
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
  let last: { state: 'ready' | 'lost'; cause: string | undefined } | undefined;
  const report = (state: 'ready' | 'lost', error?: Error) => {
    if (state === last?.state && (error === undefined || error.message === last.cause)) return;
    last = { state, cause: error?.message };
    options.onState?.(state, error);
  };
  let refusal: RedisRefusal | undefined;
  let cause: Error | undefined;
  onRefusal(connection, (error) => {
    refusal = error;
  });
  connection.on('ready', () => {
    refusal = cause = undefined;
    report('ready');
  });
  connection.on('error', (error: Error) => {
    const isSilent = error.message.startsWith('Socket timeout');
    cause = isSilent ? new Error(`no answer within ${silenceMaxMs(options) / 1000} s`) : error;
  });
  connection.on('close', () => report('lost', refusal ?? cause));
  return connection;
}

/** An error that Redis sends for every command, such as NOAUTH, or unasked before it closes the connection. */
export class RedisRefusal extends Error {
  constructor(line: string) {
    super(refusalText(line));
    this.name = 'RedisRefusal';
  }
}

const REFUSAL_WORDS: Readonly<Record<string, string>> = {
  NOAUTH: 'it requires a password, but none is configured (redis.url or redis.password)',
  WRONGPASS: 'it does not accept the configured user and password',
  DENIED: 'it is in protected mode: without a password it serves only its own machine',
};

/** Translates the error codes that have a text for people; others stay as they are. */
export function refusalText(line: string): string {
  const code = /^[A-Z]+/.exec(line)?.[0] ?? '';
  return Object.hasOwn(REFUSAL_WORDS, code) ? `${code}: ${REFUSAL_WORDS[code]}` : line;
}

const REFUSAL_MAX_BYTES = 512;

/** Listens for an error in the first reply on each connection, which belongs to no command, so that ioredis discards it. */
function onRefusal(connection: RedisConnection, tell: (error: RedisRefusal) => void): void {
  if (connection instanceof Cluster) {
    connection.on('+node', (node: Redis) => onRefusal(node, tell));
    return;
  }
  connection.on('connect', () =>
    connection.stream.once('data', (bytes: Buffer) => {
      const line = bytes.subarray(0, REFUSAL_MAX_BYTES).toString().split('\r\n', 1)[0] ?? '';
      // An older server answers HELLO with an unknown command and works all the same.
      if (line.startsWith('-') && !/unknown command|NOPROTO/i.test(line))
        tell(new RedisRefusal(line.slice(1)));
    }),
  );
}

function retryInMs(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 6), RECONNECT_MAX_MS);
}

function open(target: RedisTarget, common: RedisOptions, kind: ConnectionKind): RedisConnection {
  if (target.cluster) {
    const { retryStrategy: _, ...redisOptions } = common;
    return new Cluster(target.cluster, {
      redisOptions,
      // Connects to the host names that nodes announce, since those are in their certificates.
      dnsLookup: (name, callback) => callback(null, name),
      enableOfflineQueue: kind === 'consumer',
      clusterRetryStrategy: retryInMs,
    });
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

/** Getters read the files anew for each connection, so that renewed certificates are used. */
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
          // The file is being replaced: use the last good content.
        }
        return last;
      },
    });
  }
  return options;
}
