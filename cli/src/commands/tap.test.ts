import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, vi } from 'vitest';
import { tapCommand } from './tap.ts';

it('prints no marks of senders that change the direction of text', async () => {
  const item = {
    ...{ at: 0, signal: 'traces', class: 'normal', service: 'pay\u202etxt', name: 'GET\u2066', about: {} },
    ...{ attributes: { 'a\u202e': 'b\u202e' }, resource: {} },
  };
  const server = createServer((_request, response) => response.end(`${JSON.stringify(item)}\n`));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    const { port } = server.address() as AddressInfo;
    await tapCommand({ admin: `127.0.0.1:${port}`, limit: 1, seconds: 1 });
    const text = write.mock.calls.map(([chunk]) => String(chunk)).join('');
    expect(text).toContain('pay txt');
    expect(text).not.toMatch(/\p{Bidi_Control}/u);
  } finally {
    write.mockRestore();
    server.close();
  }
});
