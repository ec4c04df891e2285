import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';

/**
 * Has requests for another protocol (`Connection: Upgrade`) answered in this one, as if they had not asked (RFC 9110, 7.8).
 * Java's HttpClient asks with the first request of a connection.
 *
 * Node would answer them as well, but drop what came in the same read: the requests that a pipelining client has sent behind
 * it. They would never be stored, and the client would take the next answer for theirs. So the request is put back without the
 * header `Upgrade`, in front of what follows, and the server begins again with the connection.
 */
export function declineUpgrades(server: Pick<Server, 'on' | 'emit' | 'closeAllConnections'>): void {
  // While their requests wait, Node does not know these connections, and would not close them when the server stops.
  const waiting = new Set<Socket>();
  const closeOthers = server.closeAllConnections.bind(server);
  server.closeAllConnections = () => {
    for (const socket of waiting) socket.destroy();
    closeOthers();
  };
  const began = server instanceof TlsServer ? 'secureConnection' : 'connection';
  server.on('upgrade', (request: IncomingMessage, socket: Socket, rest: Buffer) => {
    waiting.add(socket);
    const onClose = () => waiting.delete(socket);
    const onError = () => {};
    socket.once('close', onClose).on('error', onError);
    const putBack = () => {
      if (socket.destroyed || socket.writableEnded) return;
      // Node's own name for the response that is being sent. Put back before that, a request would wait for ever.
      const { _httpMessage: earlier } = socket as Socket & { _httpMessage?: ServerResponse | null };
      if (earlier) {
        earlier.once('close', putBack);
        return;
      }
      waiting.delete(socket);
      socket.off('close', onClose).off('error', onError).setTimeout(0);
      socket.unshift(rest);
      socket.unshift(headWithoutUpgrade(request));
      server.emit(began, socket);
    };
    putBack();
  });
}

function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): Buffer {
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.toLowerCase() !== 'upgrade') head += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
  return Buffer.from(`${head}\r\n`, 'latin1');
}
