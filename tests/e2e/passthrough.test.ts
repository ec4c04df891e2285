/** What nothing has to change goes on in the very bytes it came in. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { deflateSync, gzipSync, inflateRawSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { accounting, startOne, untilQuiet } from '../kit.ts';

interface Arrived {
  path: string | undefined;
  headers: IncomingHttpHeaders;
  wire: Buffer;
}

const GZIP_HEADER_BYTES = 10;
const PROTOBUF = 'application/x-protobuf';
/** ExportTraceServiceRequest with one span and a field that nobody knows. */
const TRACES = Buffer.from('0a0b120912072a0568656c6c6ffa0702dead', 'hex');
/** No protobuf at all: profiles are opaque. */
const PROFILE = createHash('sha512').update('profile').digest();

it('compressed bodies keep their bytes, deflate is sent uncompressed, profiles are opaque and counted by request', async () => {
  const arrived: Arrived[] = [];
  const upstream = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      arrived.push({ path: request.url, headers: request.headers, wire: Buffer.concat(chunks) });
      response.writeHead(200, { 'content-type': PROTOBUF }).end();
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  using dir = temporaryDirectory();
  const url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  try {
    await using running = await startOne(dir.path, { url });
    const send = async (path: string, body: Buffer, encoding?: string): Promise<Arrived> => {
      const before = arrived.length;
      const response = await fetch(`${running.otlp}${path}`, {
        method: 'POST',
        headers: { 'content-type': PROTOBUF, ...(encoding ? { 'content-encoding': encoding } : {}) },
        body,
      });
      expect([response.status, await response.text()]).toEqual([200, '']);
      await waitUntil(() => arrived.length > before, { what: 'it has arrived' });
      return arrived[before]!;
    };
    for (const [encoding, wire, kept] of [
      [undefined, TRACES, true],
      ['gzip', gzipSync(TRACES), true],
      ['zstd', zstdCompressSync(TRACES), true],
      ['deflate', deflateSync(TRACES), false],
    ] as const) {
      const got = await send('/v1/traces', wire, encoding);
      expect(got.headers['content-type']).toBe(PROTOBUF);
      expect(got.headers['content-encoding'], encoding).toBe(kept ? encoding : undefined);
      expect(got.wire.equals(kept ? wire : TRACES), encoding).toBe(true);
    }
    // Several members or frames become one: many servers read the first alone.
    for (const [encoding, compress, decompress] of [
      ['gzip', gzipSync, (body: Buffer) => inflateRawSync(body.subarray(GZIP_HEADER_BYTES))],
      ['zstd', zstdCompressSync, zstdDecompressSync],
    ] as const) {
      const got = await send('/v1/traces', Buffer.concat([compress(TRACES), compress(TRACES)]), encoding);
      expect(got.headers['content-encoding']).toBe(encoding);
      expect(decompress(got.wire).equals(Buffer.concat([TRACES, TRACES])), encoding).toBe(true);
    }
    for (const [encoding, wire] of [
      [undefined, PROFILE],
      ['gzip', gzipSync(PROFILE)],
    ] as const) {
      const got = await send('/v1development/profiles', wire, encoding);
      expect([got.path, got.headers['content-encoding']]).toEqual(['/v1development/profiles', encoding]);
      expect(got.wire.equals(wire)).toBe(true);
    }
    await untilQuiet(running.admin);
    // Eight spans (two bodies held two), and two requests of profiles.
    expect(await accounting(running.admin)).toMatchObject({ accepted: 10, delivered: 10, difference: 0 });
    const metrics = await (await fetch(`${running.admin}/metrics`)).text();
    expect(metrics).toContain('receiver_items_total{signal="profiles"} 2');
    expect(metrics).toContain('receiver_items_total{signal="traces"} 8');
  } finally {
    upstream.close();
  }
});
