import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A client that writes what it likes, such as requests without waiting for answers. */
export class RawClient implements Disposable {
  readonly #socket: Socket;
  /** Resolves when the connection has been closed. */
  readonly closed: Promise<unknown>;
  #received = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      this.#received += bytes.toString('latin1');
    });
  }

  static async connect(port: number, host = '127.0.0.1'): Promise<RawClient> {
    const socket = connect(port, host);
    const client = new RawClient(socket);
    await once(socket, 'connect');
    return client;
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  /** Bytes that the server and the kernel's buffers have not taken yet. */
  get unsent(): number {
    return this.#socket.writableLength;
  }

  /** Statuses of the answers so far, in order. */
  get statuses(): string[] {
    return [...this.#received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status!);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
