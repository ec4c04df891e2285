import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Some tens of MiB. */
const WAITING_MAX = 10_000;
/** One turn of the event loop may read 2 MiB of a connection, and what waits is aborted in one turn when it closes. */
const WAITING_OF_ONE_MAX = 1_000;
/** A request that is answered at once lets the next one begin: no more than so many in one turn of the event loop. */
const BEGUN_MAX = 64;

/**
 * Handles the requests of each connection one after the other, and reads no more of a connection while some of it wait.
 *
 * A client may send requests before it has the answers to earlier ones (pipelining). Node hands all of them over at once and
 * reads on. Each takes some kilobytes beside its body, so a few connections with tiny requests would fill the memory, in front
 * of everybody else's requests.
 */
export class OneAtATime {
  readonly #maxWaiting: number;
  #waiting = 0;
  /** Requests begun in this turn. */
  #begun = 0;
  readonly #waitingOf = new WeakMap<Socket, number>();

  /** @param maxWaiting requests of all connections that may wait; a connection that sends another one then is closed */
  constructor(maxWaiting = WAITING_MAX) {
    this.#maxWaiting = maxWaiting;
  }

  /** Calls `handle` at once, or when all earlier requests of the connection have been answered. */
  take(request: IncomingMessage, response: ServerResponse, handle: () => void): void {
    // Node gives a response its socket when it is its turn.
    if (response.socket) {
      this.#begin(handle);
      return;
    }
    const { socket } = request;
    if (socket.destroyed) return;
    if (this.#waiting >= this.#maxWaiting || (this.#waitingOf.get(socket) ?? 0) >= WAITING_OF_ONE_MAX) {
      socket.destroy();
      return;
    }
    this.#count(socket, 1);
    response.once('socket', () => {
      this.#count(socket, -1);
      this.#begin(handle);
    });
  }

  #begin(handle: () => void): void {
    if (this.#begun >= BEGUN_MAX) {
      setImmediate(() => this.#begin(handle));
      return;
    }
    if (this.#begun === 0)
      setImmediate(() => {
        this.#begun = 0;
      });
    this.#begun++;
    handle();
  }

  #count(socket: Socket, change: number): void {
    const before = this.#waitingOf.get(socket);
    if (before === undefined) {
      // Node aborts each request that waits then, with an error: its stack trace would take ten times as long as the rest.
      let limit = Error.stackTraceLimit;
      socket.prependOnceListener('close', () => {
        limit = Error.stackTraceLimit;
        Error.stackTraceLimit = 0;
      });
      socket.once('close', () => {
        Error.stackTraceLimit = limit;
        this.#waiting -= this.#waitingOf.get(socket) ?? 0;
        this.#waitingOf.set(socket, 0);
      });
    }
    this.#waitingOf.set(socket, (before ?? 0) + change);
    this.#waiting += change;
    // Not before: Node starts reading at the end of each request that it has parsed, and when a body is read.
    setImmediate(() => this.#pauseOrResume(socket));
  }

  #pauseOrResume(socket: Socket): void {
    if (this.#waitingOf.get(socket)) socket.pause();
    else if (socket.writableNeedDrain) socket.once('drain', () => this.#pauseOrResume(socket));
    else socket.resume();
  }
}
