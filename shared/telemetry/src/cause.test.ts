import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from 'undici';
import { expect, it } from 'vitest';
import { causeText } from './cause.ts';

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => expect.unreachable(),
    (error: unknown) => error,
  );

/** A server that does this with each connection, while `use` speaks to it. */
async function withServer(
  answer: (socket: import('node:net').Socket) => void,
  use: (port: number) => Promise<void>,
): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  await use((server.address() as import('node:net').AddressInfo).port);
  await new Promise((resolve) => server.close(resolve));
}

it('explains network errors without library codes', async () => {
  let port = 0;
  await withServer(
    (socket) => socket.end(),
    async (given) => {
      port = given;
      expect(causeText(await failure(request(`http://127.0.0.1:${port}`)))).toBe(
        'connection closed by the peer',
      );
    },
  );
  await withServer(
    (socket) => void socket.end('\0\0\u0006\u0004\0\0\0\0\0'),
    async (given) =>
      expect(causeText(await failure(request(`http://127.0.0.1:${given}`)))).toMatch(/not HTTP\/1\.1/),
  );
  await withServer(
    (socket) => void socket.end('HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n'),
    async (given) =>
      expect(causeText(await failure(request(`https://127.0.0.1:${given}`)))).toMatch(/does not speak TLS/),
  );
  expect(causeText(await failure(request(`http://127.0.0.1:${port}`)))).toBe(
    `connection refused by 127.0.0.1:${port}`,
  );
  // Of a name with several addresses every attempt failed: the message of the whole is empty.
  expect(causeText(new AggregateError([Object.assign(new Error('x'), { code: 'ECONNREFUSED' })]))).toBe(
    'connection refused',
  );
  expect(
    causeText(Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND', hostname: 'otlp.example' })),
  ).toBe('cannot resolve otlp.example');
  expect(causeText(new TypeError('fetch failed', { cause: { code: 'CERT_HAS_EXPIRED' } }))).toBe(
    "the server's certificate has expired",
  );
});

it('explains file errors, with the file', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nrdot-cause-'));
  const file = join(dir, 'file');
  writeFileSync(file, '');
  const read = async (path: string) => causeText(await failure(readFile(path)));
  expect(await read(join(dir, 'none'))).toBe(`${dir}/none does not exist`);
  expect(await read(join(file, 'below'))).toBe(`${file}/below is below something that is not a directory`);
  rmSync(dir, { recursive: true });
  const made = (code: string, path?: string) =>
    causeText(Object.assign(new Error(`${code}: raw`), { code, ...(path ? { path } : {}) }));
  expect(made('ENOSPC', '/x')).toBe('no space left on the disk');
  expect(made('EROFS', '/x')).toBe('/x is read-only');
  expect(made('EACCES', '/x')).toBe('no permission for /x');
});

it('leaves our own errors unchanged', () => {
  expect(causeText(new Error('expected a number'))).toBe('expected a number');
  expect(causeText(Object.assign(new Error('said so'), { code: 'NOBODY_KNOWS' }))).toBe('said so');
  const cause = Object.assign(new Error('ENOENT'), { code: 'ENOENT', path: '/x' });
  expect(causeText(new Error('data_dir: it is read-only', { cause }))).toBe('data_dir: it is read-only');
  expect(causeText('text')).toBe('text');
  expect(causeText(undefined)).toBe('undefined');
});
