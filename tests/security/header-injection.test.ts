/** What leaves for the upstream has the headers of the configuration and no others, whatever telemetry says. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { ConfigError, loadConfig } from '@nrdot/config';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Upstream } from '../../services/exporter/src/upstream.ts';
import { post, startReceiver } from './receiver.ts';

const load = (value: string, name = 'api-key') =>
  loadConfig({
    text: JSON.stringify({ exporter: { headers: { [name]: value } } }),
    file: 'test.yaml',
    env: {},
  });

describe('a configured header', () => {
  it.each(['a\r\nx-evil: 1', 'a\nb', 'a\rb', 'a\0b', 'a\u2028b', 'a\u0100'])(
    'is refused if it contains %j',
    (value) => {
      expect(() => load(value)).toThrow(ConfigError);
    },
  );

  it.each(['x evil', 'x:evil', 'x\r\nevil', ''])('is refused with the name %j', (name) => {
    expect(() => load('1', name)).toThrow(ConfigError);
  });

  it('from a variable or a file follows the same rule', () => {
    const text = 'exporter: {headers: {api-key: "${env:KEY}"}}';
    expect(() => loadConfig({ text, file: 'test.yaml', env: { KEY: 'a\r\nx-evil: 1' } })).toThrow(
      ConfigError,
    );
  });
});

describe('a request to the upstream', () => {
  let server: Server;
  let seen = '';
  beforeAll(async () => {
    server = createServer((socket) => {
      socket.on('data', (bytes) => {
        seen += bytes.toString('latin1');
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => server.close());

  it('has one header section with only our headers', async () => {
    const hostile = 'x\r\nX-Evil: 1\r\n\r\nPOST /evil HTTP/1.1\r\n';
    const receiver = await startReceiver();
    const body = JSON.stringify({
      resourceSpans: [
        {
          resource: { attributes: [{ key: hostile, value: { stringValue: hostile } }] },
          scopeSpans: [{ spans: [{ name: hostile }] }],
        },
      ],
    });
    expect((await post(receiver.url, {}, body)).status).toBe(200);
    const payload = Buffer.from(receiver.batches[0]!.payload);
    await receiver.stop();
    const upstream = new Upstream({
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      endpoints: {},
      headers: { 'api-key': 'k' },
      timeoutMs: 5_000,
      maxResponseBytes: 1_000,
      connections: 1,
      userAgent: 'nrdot/test',
      tls: { insecureSkipVerify: false },
    });
    await upstream.send('traces', payload, 'identity');
    await upstream.close();
    const [head = '', ...rest] = seen.split('\r\n\r\n');
    const names = head
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(':')[0]!.toLowerCase());
    expect(names.sort()).toEqual([
      'accept-encoding',
      'api-key',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
    ]);
    expect(/content-length: (\d+)/.exec(head)?.[1]).toBe(String(payload.byteLength));
    expect(Buffer.from(rest.join('\r\n\r\n'), 'latin1').equals(payload)).toBe(true);
  });
});
