import { isLoopback } from '@nrdot/config';
import { isPriorityClass } from '@nrdot/queue';
import { SegmentLogError } from '@nrdot/segment-log';
import {
  type Address,
  availableHost,
  followCertificate,
  formatAddress,
  type ServerTls,
  sameSecret,
  secureServer,
  steadyNow,
} from '@nrdot/service';
import type { Logger } from '@nrdot/telemetry';
import { type FastifyInstance, fastify } from 'fastify';
import type { Intake, Spilled } from './intake.ts';
import type { Ledger } from './ledger.ts';

export interface DirectIntakeOptions {
  listen: Address;
  maxBytes: number;
  /** Asked for as a bearer token. Needed when `listen` is not a loopback address. */
  token?: string | undefined;
  /** HTTPS when a certificate is given. */
  tls?: ServerTls;
}

const ID = /^[A-Za-z][A-Za-z0-9-]{1,80}$/;
const SIGNALS = ['traces', 'metrics', 'logs', 'profiles'];
const ENCODINGS = ['identity', 'gzip', 'zstd'];
/** No request holds so many, and the books stay exact with as many batches of it as there may be. */
const ITEMS_MAX = 1_000_000_000;

/**
 * A receiver hands a batch in as soon as it has it. A time that is later than now, or this much earlier, comes of a wrong clock or is
 * made up, and the time here is nearer to the truth: no date has to be shown that there is none of, nor an age of decades.
 */
const CLOCKS_APART_MAX_MS = 24 * 3_600_000;

/**
 * Takes batches over HTTP from receivers that can't reach Redis, and answers when they are on the disk.
 *
 *     POST /v1/batches/<id>   body: the payload as held
 *     Authorization: Bearer <dlq.token>, where there is one
 *     x-nrdot-signal, -class, -items, -encoding, -received-at
 *
 * What it takes is accepted like any other batch, so it goes into the ledger, and from there into Redis' books.
 */
export class DirectIntake {
  readonly #app: FastifyInstance;
  readonly #options: DirectIntakeOptions;

  /** @throws Error when anybody in the network could write to the disk */
  constructor(options: DirectIntakeOptions, intake: Intake, ledger: Ledger, log: Logger) {
    const { listen, token } = options;
    if (!token && !isLoopback(listen.host)) {
      throw new Error(
        `dlq.listen is ${formatAddress(listen)}, which others can reach; expected a loopback address, or dlq.token or admin.token to be set`,
      );
    }
    this.#options = options;
    this.#app = fastify({
      ...secureServer(options.tls ?? {}),
      logger: false,
      bodyLimit: options.maxBytes,
      forceCloseConnections: true,
    });
    // Before the body is read.
    this.#app.addHook('onRequest', async (request, reply) => {
      // Receivers send neither. A page whose name points at this machine (DNS rebinding) may set every other header.
      if (request.headers.origin !== undefined || request.headers['sec-fetch-site'] !== undefined)
        return reply.code(403).send({ error: 'a page in a browser; expected a receiver' });
      const given = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
      if (!token || sameSecret(given, token)) return;
      return reply.code(401).header('www-authenticate', 'Bearer').send({
        error: 'the bearer token is missing or wrong; expected dlq.token, the same here and in receivers',
      });
    });
    this.#app.removeAllContentTypeParsers();
    this.#app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    this.#app.post('/v1/batches/:id', async (request, reply) => {
      const spilled = batchOf((request.params as { id: string }).id, request.headers, request.body);
      if (typeof spilled === 'string') return reply.code(400).send({ error: spilled });
      try {
        await takeDirectly(spilled, intake, ledger, log);
      } catch (error) {
        if (!(error instanceof SegmentLogError)) throw error;
        return reply.code(503).header('retry-after', '1').send({ error: error.message });
      }
      return { stored: spilled.id };
    });
    this.#app.setErrorHandler((error, _request, reply) => {
      const { statusCode = 500, message } = error as { statusCode?: number; message: string };
      if (statusCode >= 500) log.error({ err: message }, 'a direct batch failed');
      return reply.code(statusCode).send({ error: message });
    });
  }

  async start(): Promise<Address> {
    const { port } = this.#options.listen;
    const host = await availableHost(this.#options.listen.host);
    await this.#app.listen({ host, port });
    followCertificate(this.#app.server, this.#options.tls ?? {});
    const address = this.#app.server.address();
    return { host, port: typeof address === 'object' && address ? address.port : port };
  }

  async stop(): Promise<void> {
    await this.#app.close();
  }
}

/**
 * Takes a batch to the disk without Redis.
 * @throws SegmentLogError when the disk does not take it
 */
export async function takeDirectly(
  spilled: Spilled,
  intake: Pick<Intake, 'write'>,
  ledger: Ledger,
  log: Logger,
): Promise<void> {
  const { id, items } = spilled;
  await ledger.begin(id, items).catch((error: Error) => {
    throw new SegmentLogError('disk_failing', `the ledger could not be written: ${error.message}`, {
      cause: error,
    });
  });
  try {
    // One that is sent again, for want of an answer, was accepted once.
    if (!(await intake.write(spilled)).fresh) return ledger.abandon(id);
  } catch (error) {
    ledger.abandon(id);
    throw error;
  }
  await ledger
    .accepted(id)
    .catch((error: Error) => log.warn({ err: error.message }, 'the ledger could not be written'));
}

function batchOf(id: string, headers: Record<string, unknown>, body: unknown): Spilled | string {
  const header = (name: string) => String(headers[`x-nrdot-${name}`] ?? '');
  const [signal, priorityClass, encoding] = [header('signal'), header('class'), header('encoding')];
  const [items, receivedAt] = [Number(header('items')), Number(header('received-at'))];
  if (!ID.test(id)) return 'the id: expected a letter, then letters, digits and -, at most 81';
  if (!SIGNALS.includes(signal)) return `x-nrdot-signal: expected one of ${SIGNALS.join(', ')}`;
  if (!isPriorityClass(priorityClass)) return 'x-nrdot-class: expected critical, high or normal';
  if (!ENCODINGS.includes(encoding)) return `x-nrdot-encoding: expected one of ${ENCODINGS.join(', ')}`;
  if (!Number.isSafeInteger(items) || items < 1 || items > ITEMS_MAX)
    return `x-nrdot-items: expected a whole number from 1 to ${ITEMS_MAX}`;
  if (!Number.isSafeInteger(receivedAt) || receivedAt < 1) return 'x-nrdot-received-at: expected Unix ms';
  const now = steadyNow();
  if (!Buffer.isBuffer(body) || body.byteLength === 0) return 'the body: expected the payload';
  return {
    id,
    signal,
    class: priorityClass,
    items,
    encoding: encoding as Spilled['encoding'],
    receivedAt: receivedAt > now || now - receivedAt > CLOCKS_APART_MAX_MS ? now : receivedAt,
    reason: 'redis_away',
    payload: body,
  };
}
