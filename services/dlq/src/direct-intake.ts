import type { IncomingMessage, ServerResponse } from 'node:http';
import { isLoopback } from '@nrdot/config';
import { Chunks } from '@nrdot/otlp';
import { isPriorityClass } from '@nrdot/queue';
import { ITEMS_MAX, RECORD_SIGNALS, SegmentLogError } from '@nrdot/segment-log';
import {
  type Address,
  bears,
  formatAddress,
  listen,
  OneAtATime,
  type ServerTls,
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
  /** Maximum payload bytes of all requests in memory; at least `maxBytes`. */
  maxInflightBytes: number;
  /** Time for a whole request to arrive. */
  requestTimeoutMs?: number;
  /** Required as a bearer token. Mandatory if `listen` is not a loopback address. */
  token?: string | undefined;
  /** HTTPS if it has a certificate. */
  tls?: ServerTls;
}

/** As many as a receiver takes from its clients by default. */
const CONNECTIONS_MAX = 10_000;
const ID = /^[A-Za-z][A-Za-z0-9-]{1,80}$/;
const ENCODINGS = ['identity', 'gzip', 'zstd'];

/**
 * A receiver sends a batch as soon as it has it. A time in the future, or this much in the past, comes from a wrong clock or
 * was made up, so the dlq's own time is used instead. This also keeps out times that no date can represent.
 */
const CLOCKS_APART_MAX_MS = 24 * 3_600_000;

/**
 * Accepts batches over HTTP from receivers that cannot reach Redis, and answers when they are on the disk.
 *
 *     POST /v1/batches/<id>   body: the payload as it would be stored in Redis
 *     Authorization: Bearer <dlq.token>, if there is one
 *     x-nrdot-signal, -class, -items, -encoding, -received-at
 *
 * Its batches count as accepted, so they go into the ledger and from there into Redis' accounting.
 */
export class DirectIntake {
  readonly #app: FastifyInstance;
  readonly #options: DirectIntakeOptions;
  readonly #log: Logger;
  /** Payload bytes of all requests that are being read or written. */
  #heldBytes = 0;

  /** @throws Error if the configuration would let anybody in the network write to the disk */
  constructor(options: DirectIntakeOptions, intake: Intake, ledger: Ledger, log: Logger) {
    const { listen, token } = options;
    if (!token && !isLoopback(listen.host)) {
      throw new Error(
        `dlq.listen is ${formatAddress(listen)}, which other machines can reach; expected a loopback address, or dlq.token or admin.token to be set`,
      );
    }
    this.#options = options;
    this.#log = log;
    this.#app = fastify({
      ...secureServer(options.tls ?? {}, { requestTimeoutMs: options.requestTimeoutMs }),
      logger: false,
      forceCloseConnections: true,
    });
    const inTurn = new OneAtATime();
    this.#app.addHook('onRequest', (request, reply, done) => inTurn.take(request.raw, reply.raw, done));
    // Before the body is read.
    this.#app.addHook('onRequest', async (request, reply) => {
      // Receivers send neither header. A page whose host name resolves to this machine (DNS rebinding) can set every other one.
      if (request.headers.origin !== undefined || request.headers['sec-fetch-site'] !== undefined)
        return reply.code(403).send({ error: 'request from a browser; expected a receiver' });
      if (bears(request.headers.authorization, token)) return;
      return reply.code(401).header('www-authenticate', 'Bearer').send({
        error: 'the bearer token is missing or wrong; expected dlq.token, the same here and in receivers',
      });
    });
    this.#app.removeAllContentTypeParsers();
    // The handler reads the stream itself, so that limits apply while the payload arrives.
    this.#app.addContentTypeParser('*', (_request, stream, done) => done(null, stream));
    this.#app.post('/v1/batches/:id', async (request, reply) => {
      const held = { bytes: 0 };
      try {
        const payload = await this.#read(request.raw, reply.raw, held);
        const spilled = batchOf((request.params as { id: string }).id, request.headers, payload);
        if (typeof spilled === 'string') return reply.code(400).send({ error: spilled });
        await takeDirectly(spilled, intake, ledger, log);
        return { stored: spilled.id };
      } catch (error) {
        if (!(error instanceof SegmentLogError)) throw error;
        return reply.code(503).header('retry-after', '1').send({ error: error.message });
      } finally {
        this.#heldBytes -= held.bytes;
      }
    });
    this.#app.setErrorHandler((error, _request, reply) => {
      const { statusCode = 500, message } = error as { statusCode?: number; message: string };
      if (statusCode === 503) reply.header('retry-after', '1');
      else if (statusCode >= 500) log.error({ err: message }, 'a direct batch failed');
      return reply.code(statusCode).send({ error: message });
    });
  }

  /**
   * Reads a payload. It counts as held, in `held`, until it is written: there may be any number of receivers, and each keeps what
   * gets a 503. A receiver that gives up after its time limit does not end the write; one that goes before it has sent all, as
   * when it is restarted, still has the batch.
   */
  #read(request: IncomingMessage, response: ServerResponse, held: { bytes: number }): Promise<Buffer> {
    const { maxBytes, maxInflightBytes } = this.#options;
    return new Promise((resolve, reject) => {
      const chunks = new Chunks(request.socket);
      let isOver = false;
      const tooLarge = `the payload is larger than ${maxBytes} bytes (receiver.max_body)`;
      const refuse = (statusCode: number, message: string) => {
        isOver = true;
        request.off('data', take).resume(); // the answer is sent, and the rest discarded
        chunks.clear();
        reject(Object.assign(new Error(message), { statusCode }));
      };
      const take = (chunk: Buffer) => {
        held.bytes += chunk.byteLength;
        this.#heldBytes += chunk.byteLength;
        chunks.add(chunk);
        if (held.bytes > maxBytes) refuse(413, tooLarge);
        else if (this.#heldBytes > maxInflightBytes)
          refuse(503, `receivers have sent ${maxInflightBytes} bytes that are not on the disk yet`);
      };
      response.once('close', () => {
        if (isOver) return;
        const message = `the receiver closed the connection after ${held.bytes} bytes of a payload`;
        this.#log.debug(message);
        refuse(400, message);
      });
      // Before it has come.
      if (Number(request.headers['content-length'] ?? 0) > maxBytes) return refuse(413, tooLarge);
      request.on('data', take).once('end', () => {
        isOver = true;
        resolve(chunks.join());
      });
    });
  }

  async start(): Promise<Address> {
    const { listen: address, tls } = this.#options;
    return listen(this.#app, address, { tls, connections: CONNECTIONS_MAX });
  }

  async stop(): Promise<void> {
    await this.#app.close();
  }
}

/**
 * Writes a batch to the disk without Redis.
 * @throws SegmentLogError when the disk does not accept it
 */
export async function takeDirectly(
  spilled: Spilled,
  intake: Pick<Intake, 'has' | 'write'>,
  ledger: Ledger,
  log: Logger,
): Promise<void> {
  const { id, items } = spilled;
  // Sent again because the answer was lost: it was accepted before, and would be again if a kill left it in flight.
  if (intake.has(id)) return;
  await ledger.begin(id, items).catch((error: Error) => {
    throw new SegmentLogError('disk_failing', `the ledger could not be written: ${error.message}`, {
      cause: error,
    });
  });
  try {
    // A batch that is sent again because the answer was lost was accepted before.
    if (!(await intake.write(spilled)).fresh) return ledger.abandon(id);
  } catch (error) {
    ledger.abandon(id);
    throw error;
  }
  await ledger
    .accepted(id)
    .catch((error: Error) => log.warn({ err: error.message }, 'the ledger could not be written'));
}

function batchOf(id: string, headers: Record<string, unknown>, payload: Buffer): Spilled | string {
  const header = (name: string) => String(headers[`x-nrdot-${name}`] ?? '');
  const [signal, priorityClass, encoding] = [header('signal'), header('class'), header('encoding')];
  const [items, receivedAt] = [numberOf(header('items')), numberOf(header('received-at'))];
  if (!ID.test(id)) return 'the id: expected a letter, then letters, digits and -, at most 81';
  if (!RECORD_SIGNALS.includes(signal)) return `x-nrdot-signal: expected one of ${RECORD_SIGNALS.join(', ')}`;
  if (!isPriorityClass(priorityClass)) return 'x-nrdot-class: expected critical, high or normal';
  if (!ENCODINGS.includes(encoding)) return `x-nrdot-encoding: expected one of ${ENCODINGS.join(', ')}`;
  if (!Number.isSafeInteger(items) || items < 1 || items > ITEMS_MAX)
    return `x-nrdot-items: expected a whole number from 1 to ${ITEMS_MAX}`;
  if (!Number.isSafeInteger(receivedAt) || receivedAt < 1) return 'x-nrdot-received-at: expected Unix ms';
  const now = steadyNow();
  if (payload.byteLength === 0) return 'the body: expected the payload';
  return {
    id,
    signal,
    class: priorityClass,
    items,
    encoding: encoding as Spilled['encoding'],
    receivedAt: receivedAt > now || now - receivedAt > CLOCKS_APART_MAX_MS ? now : receivedAt,
    reason: 'redis_away',
    payload,
  };
}

/** `Number` would also read `1e3`, `0x10` and blanks. */
function numberOf(digits: string): number {
  return /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN;
}
