import { createServer } from 'node:net';

/** Below what systems give to outgoing connections, so that it is still free when a killed process comes back. */
const PORTS = { from: 12_000, to: 30_000 };

/** A port for a server that is stopped and started again. */
export async function steadyPort(): Promise<number> {
  while (true) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}
