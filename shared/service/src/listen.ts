import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import { promisify } from 'node:util';
import type { FastifyInstance } from 'fastify';
import type { Address } from './address.ts';
import { followCertificate } from './certificates.ts';
import type { ServerTls } from './server-tls.ts';
import { declineUpgrades } from './upgrades.ts';

/** All addresses: `::` includes IPv4, and is replaced by it where IPv6 is missing. */
const ALL = '::';
/** Errors of an address that this machine does not have, such as `::1` where IPv6 is off. */
const ABSENT = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT']);

export interface ListenOptions {
  tls?: ServerTls | undefined;
  /** Maximum number of connections per address. */
  connections: number;
}

/**
 * Starts listening, with the certificate followed. Where `localhost` is two addresses, one server answers on both: Fastify would
 * create a second one, which has neither the limit on connections nor renewed certificates.
 * @returns the address, with the port that the system chose for port 0
 * @throws Error if the port of an address is taken
 */
export async function listen(
  app: FastifyInstance,
  { host, port }: Address,
  { tls = {}, connections }: ListenOptions,
  addressesOf = allAddresses,
): Promise<Address> {
  const available = host === ALL ? ((await present([ALL]))[0] ?? '0.0.0.0') : host;
  const [first = available, ...others] =
    available === 'localhost' ? await present(await addressesOf(host)) : [available];
  const { server } = app;
  const doors = others.map(() =>
    createServer({ noDelay: true }, (socket: Socket) => server.emit('connection', socket)),
  );
  const closed: Promise<void>[] = [];
  const handshakes = handshakesOf(server);
  app.addHook('preClose', async () => {
    for (const socket of handshakes.values()) socket.destroy();
    for (const door of doors) closed.push(new Promise((resolve) => door.close(() => resolve())));
  });
  // The server waits for the connections that it has accepted itself, and not for those of the other addresses.
  app.addHook('onClose', () => Promise.all(closed).then(() => {}));
  server.maxConnections = connections;
  declineUpgrades(server);
  await app.listen({ host: first, port });
  followCertificate(server, tls);
  const bound = server.address();
  const actual = typeof bound === 'object' && bound ? bound.port : port;
  for (const [i, door] of doors.entries()) {
    door.maxConnections = connections;
    await once(door.listen({ host: others[i], port: actual }), 'listening');
  }
  return { host: available, port: actual };
}

/**
 * Connections in their TLS handshake, by the client's address. A server that closes waits for them, and cannot close them: it
 * knows only those that are beyond it.
 */
function handshakesOf(server: Server): ReadonlyMap<string, Socket> {
  const handshakes = new Map<string, Socket>();
  if (!(server instanceof TlsServer)) return handshakes;
  const nameOf = ({ localAddress, remoteAddress, remotePort }: Socket) =>
    `${localAddress} ${remoteAddress} ${remotePort}`;
  server.on('connection', (socket: Socket) => {
    const name = nameOf(socket);
    handshakes.set(name, socket);
    socket.once('close', () => {
      if (handshakes.get(name) === socket) handshakes.delete(name);
    });
  });
  server.on('secureConnection', (socket: Socket) => handshakes.delete(nameOf(socket)));
  return handshakes;
}

/** Those that this machine has, each once: a hosts file may have the same name and address on several lines. */
async function present(addresses: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const host of new Set(addresses)) {
    const probe = createServer();
    try {
      await once(probe.listen({ host, port: 0 }), 'listening');
      found.push(host);
    } catch (error) {
      if (!ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
    } finally {
      probe.close();
    }
  }
  return found;
}

async function allAddresses(host: string): Promise<string[]> {
  return (await promisify(dns.lookup)(host, { all: true })).map(({ address }) => address);
}
