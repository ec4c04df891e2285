import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Config } from '@nrdot/config';
import { type ContentEncoding, encodeContent, type Signal } from '@nrdot/otlp';
import { causeText } from '@nrdot/telemetry';
import { openUpstream } from './main.ts';
import type { Outcome } from './outcome.ts';
import { proxyFor, proxyName } from './proxy.ts';
import { urlOf } from './upstream.ts';

/** Result of one empty request for a signal, sent as batches are sent. */
export interface SignalCheck {
  signal: Signal;
  url: string;
  ok: boolean;
  /** What failed, if anything. */
  part?: 'host' | 'proxy' | 'network' | 'tls' | 'address' | 'key' | 'encoding' | 'size' | 'upstream';
  /** The finding, for people. */
  found: string;
  /** What to do about a failure. */
  todo?: string;
}

type Failure = Required<Pick<SignalCheck, 'part' | 'found' | 'todo'>>;

/** Without profiles, which few upstreams accept. */
const CHECKED: readonly Signal[] = ['traces', 'metrics', 'logs'];

/** Sends one empty request per signal, with the configured headers, TLS, path and encoding. */
export async function checkUpstream(config: Config, version: string): Promise<SignalCheck[]> {
  const upstream = openUpstream(config, version);
  const { compression } = config.exporter;
  const encoding: ContentEncoding =
    compression === 'gzip' || compression === 'zstd' ? compression : 'identity';
  const body = await encodeContent(Buffer.alloc(0), encoding);
  try {
    return await Promise.all(
      CHECKED.map(async (signal) => {
        const url = new URL(urlOf(signal, config.exporter));
        const outcome = await upstream.send(signal, body, encoding);
        const failure =
          outcome.kind === 'delivered' ? undefined : await failureOf(outcome, url, config, encoding);
        return failure
          ? { signal, url: url.href, ok: false, ...failure }
          : { signal, url: url.href, ok: true, found: takenText(outcome) };
      }),
    );
  } finally {
    await upstream.close();
  }
}

function takenText(outcome: Outcome): string {
  return outcome.kind === 'delivered'
    ? 'accepts it: address, key and encoding are right'
    : `is reached, but refuses an empty request (${outcome.message || 'no further details'})`;
}

async function failureOf(
  outcome: Exclude<Outcome, { kind: 'delivered' }>,
  url: URL,
  config: Config,
  encoding: ContentEncoding,
): Promise<Failure | undefined> {
  const { message } = outcome;
  const status = 'status' in outcome ? outcome.status : undefined;
  if (status === undefined) return networkFailure(message, url, config);
  const proxy = 'proxy' in outcome ? outcome.proxy : undefined;
  if (proxy !== undefined || status === 407) {
    const todo =
      status === 407
        ? 'Set its user and password: exporter.proxy (http://user:password@host:port), or the environment.'
        : `It opens no tunnel: is it allowed to reach ${url.host}?`;
    return { part: 'proxy', found: message, todo };
  }
  // What the answer means is decided in outcome.ts; only what is wrong with the address is told apart here.
  if (outcome.kind === 'rejected') return undefined; // about the data, and the request has none
  const answered = (part: Failure['part'], todo: string): Failure => {
    return { part, found: `answers ${status}${message ? `: ${message}` : ''}`, todo };
  };
  if (outcome.kind === 'too-large')
    return answered(
      'size',
      'Even an empty request is too large for it: is this the address of an OTLP/HTTP upstream?',
    );
  if (outcome.kind === 'retry')
    return answered(
      'upstream',
      'The connection works, but the upstream fails or throttles at the moment. Its status page may say why.',
    );
  if (outcome.reason === 'auth')
    return answered(
      'key',
      'Set the right key in exporter.headers; does it belong to this region and account?',
    );
  const inEncoding = encoding === 'identity' ? '' : ` in ${encoding}`;
  if (status === 415)
    return answered(
      'encoding',
      `It does not accept protobuf${inEncoding}: try another exporter.compression.`,
    );
  // An edge whose origin is down answers so too.
  const edge = status >= 500 ? ' If it is right, the status page of the upstream may say why.' : '';
  return answered('address', addressText(url) + edge);
}

function addressText(url: URL): string {
  if (url.port === '4317') return 'Port 4317 is gRPC; OTLP/HTTP usually uses 4318.';
  return 'Set exporter.endpoint to the base URL of an OTLP/HTTP upstream, such as https://otlp.nr-data.net.';
}

/** Finds out which step fails: name resolution, the connection, or TLS. */
async function networkFailure(message: string, url: URL, config: Config): Promise<Failure> {
  const { timeoutMs, tls } = config.exporter;
  const proxy = proxyFor(url, config.exporter.proxy?.reveal(), process.env);
  if (proxy !== undefined) {
    const todo = `Requests go through the proxy ${proxyName(proxy)} (exporter.proxy, or the environment): is it the right one, and can it reach ${url.host}?`;
    return { part: 'proxy', found: message, todo };
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const secure = url.protocol === 'https:';
  const port = Number(url.port || (secure ? 443 : 80));
  const hasOwnFiles = Boolean(tls.caFile || tls.certFile);
  const servername = /[a-z]/i.test(host) ? { servername: host } : {};
  const rejectUnauthorized = !tls.insecureSkipVerify;
  const openTls = () => connectTls({ host, port, ...servername, rejectUnauthorized });
  const steps: [Failure['part'], () => Promise<unknown>, todo: string][] = [
    [
      'host',
      () => lookup(host),
      'Is the host in exporter.endpoint spelled correctly, and does this machine have a name server?',
    ],
    [
      'network',
      () => opened(connectTcp({ host, port }), 'connect', timeoutMs),
      `Is there a firewall or a proxy between this machine and ${host}:${port}? Is the port right?`,
    ],
    [
      'tls',
      async () => secure && opened(openTls(), 'secureConnect', timeoutMs),
      hasOwnFiles
        ? 'Check exporter.tls: ca_file, cert_file and key_file.'
        : 'Set exporter.tls.ca_file to its CA, or correct its certificate.',
    ],
  ];
  for (const [part, step, todo] of steps) {
    try {
      await step();
    } catch (error) {
      return { part, found: part === 'tls' && hasOwnFiles ? message : causeText(error), todo };
    }
  }
  if (/not HTTP\/1\.1/.test(message)) return { part: 'address', found: message, todo: addressText(url) };
  return {
    part: 'upstream',
    found: message,
    todo: `Something answers at ${host}:${port}: is it an OTLP/HTTP upstream? Port 4317 is gRPC.`,
  };
}

async function opened(socket: Socket, event: 'connect' | 'secureConnect', timeoutMs: number): Promise<void> {
  socket.setTimeout(timeoutMs, () =>
    socket.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })),
  );
  await once(socket, event).finally(() => socket.destroy());
}
