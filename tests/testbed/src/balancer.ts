/** A load balancer before several servers: each request goes to the next one, so that those of one client go to all of them. */
import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export class Balancer {
  readonly #server: Server;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #ports: readonly number[];
  #turn = 0;

  private constructor(ports: readonly number[]) {
    this.#ports = ports;
    this.#server = createServer((incoming, outgoing) => this.#forward(incoming, outgoing));
    this.#server.requestTimeout = 0; // it is the servers' to end what is slow
  }

  /** @param ports of servers on this machine */
  static async to(ports: readonly number[]): Promise<Balancer> {
    const balancer = new Balancer(ports);
    balancer.#server.listen(0, '127.0.0.1');
    await once(balancer.#server, 'listening');
    return balancer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy();
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  /**
   * As it comes, both ways. A server that is not there is 502, which clients take as a reason to send again; an answer that is cut
   * off is cut off for the client too.
   */
  #forward(incoming: IncomingMessage, outgoing: ServerResponse): void {
    this.#turn = (this.#turn + 1) % this.#ports.length;
    const { method, url: path, headers } = incoming;
    const forwarded = request(
      { host: '127.0.0.1', port: this.#ports[this.#turn]!, method, path, headers, agent: this.#agent },
      (answer) => {
        outgoing.writeHead(answer.statusCode!, answer.headers);
        answer.on('error', () => outgoing.destroy());
        answer.pipe(outgoing);
      },
    );
    forwarded.on('error', () => {
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(502).end();
    });
    // A client that goes away in the middle takes its request with it.
    outgoing.on('close', () => {
      if (!outgoing.writableFinished) forwarded.destroy();
    });
    incoming.on('error', () => forwarded.destroy());
    incoming.pipe(forwarded);
  }
}
