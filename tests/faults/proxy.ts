/** A TCP proxy between two parties of the pipeline that can spoil the connection in the ways networks do. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

/**
 * - `cut`: every connection is reset, and new ones too.
 * - `delay`: each piece is held back for a while, both ways.
 * - `half-open`: connections stay, and nothing arrives any more: what is sent is swallowed.
 * - `silent`: the same, for those that there are, and for good: it is never mended. New ones work.
 * - `throttle`: so many bytes per second.
 * - `dribble`: a few bytes at a time.
 * - `reset-answers`: what the client sends goes through; the answer is reset after its first bytes.
 */
export const LINK_FAULTS = [
  'cut',
  'delay',
  'half-open',
  'silent',
  'throttle',
  'dribble',
  'reset-answers',
] as const;
export type LinkFault = (typeof LINK_FAULTS)[number];

const DELAY_MS = 150;
const THROTTLE_BYTES = 16 * 1024;
const THROTTLE_MS = 25;
const DRIBBLE_BYTES = 64;
const DRIBBLE_MS = 5;
const ANSWER_BYTES = 12;

interface Pair {
  client: Socket;
  server: Socket;
  /** Nothing gets through any more. */
  silent: boolean;
}

export class FaultProxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  readonly #host: string;
  readonly #port: number;
  #fault: LinkFault | undefined;

  private constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async to(port: number, host = '127.0.0.1'): Promise<FaultProxy> {
    const proxy = new FaultProxy(host, port);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** Where to connect. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  spoil(fault: LinkFault): void {
    this.#fault = fault;
    if (fault === 'cut') this.#resetAll();
    if (fault === 'silent') for (const pair of this.#pairs) pair.silent = true;
  }

  /** Ends the fault. What bytes were swallowed on can't go on, and is reset. */
  mend(): void {
    const swallowed = this.#fault === 'half-open';
    this.#fault = undefined;
    if (swallowed) this.#resetAll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#resetAll();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #resetAll(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
  }

  #accept(client: Socket): void {
    if (this.#fault === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host: this.#host, port: this.#port, noDelay: true });
    client.setNoDelay(true);
    const pair = { client, server, silent: false };
    this.#pairs.add(pair);
    const end = () => {
      if (pair.silent) return; // the other side does not learn of it
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    void this.#pump(pair, client, server).catch(end);
    void this.#pump(pair, server, client).catch(end);
  }

  /** Reads no further than it has written: a slow side slows the other, as it would without a proxy. */
  async #pump(pair: Pair, from: Socket, to: Socket): Promise<void> {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      if (pair.silent) continue;
      switch (this.#fault) {
        case 'half-open':
          continue;
        case 'delay':
          await wait(DELAY_MS);
          break;
        case 'throttle':
          await this.#inPieces(chunk, to, THROTTLE_BYTES, THROTTLE_MS);
          continue;
        case 'dribble':
          await this.#inPieces(chunk, to, DRIBBLE_BYTES, DRIBBLE_MS);
          continue;
        case 'reset-answers':
          if (from === pair.client) break;
          await write(to, chunk.subarray(0, ANSWER_BYTES));
          from.resetAndDestroy();
          to.resetAndDestroy();
          return;
      }
      await write(to, chunk);
    }
    if (!pair.silent) to.end();
  }

  async #inPieces(chunk: Buffer, to: Socket, bytes: number, ms: number): Promise<void> {
    let at = 0;
    while (at < chunk.byteLength) {
      const slow = this.#fault === 'throttle' || this.#fault === 'dribble';
      const end = slow ? at + bytes : chunk.byteLength;
      await write(to, chunk.subarray(at, end));
      if (slow) await wait(ms);
      at = end;
    }
  }
}

function write(to: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    to.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
