/** Joined gzip bodies, read by zlib from Python and by gzip itself. */
import { execFileSync } from 'node:child_process';
import { crc32 } from 'node:zlib';
import { asOneStream } from '@nrdot/otlp';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gzipBody } from '../../shared/otlp/test/gzip-bodies.ts';
import { findProgram } from '../servers/servers.ts';

const BODIES = 200;
const MAX_BYTES = 256 * 1024 * 1024;
const without = (name: string) => findProgram(name) === undefined;

/** Reads one member of each body and says how many bytes it had, their CRC, whether it ended, and what is left behind it. */
const READ_FIRST_MEMBERS = `
import struct, sys, zlib
data = sys.stdin.buffer.read()
at = 0
while at < len(data):
    size, = struct.unpack_from('<I', data, at)
    reader = zlib.decompressobj(wbits=31)
    plain = reader.decompress(data[at + 4:at + 4 + size])
    print(len(plain), zlib.crc32(plain), reader.eof, len(reader.unused_data))
    at += 4 + size
`;

async function joinedBodies(): Promise<{ plain: Buffer; joined: Buffer }[]> {
  const groups = fc.sample(fc.array(gzipBody, { minLength: 2, maxLength: 6 }), BODIES);
  return Promise.all(
    groups.map(async (bodies) => ({
      plain: Buffer.concat(bodies.map(({ plain }) => plain)),
      joined: await asOneStream(
        bodies.map(({ member }) => member),
        'gzip',
        { maxBytes: MAX_BYTES },
      ),
    })),
  );
}

describe('joined bodies', () => {
  it.skipIf(without('python3'))('are one member to Python, with all their content', async () => {
    const bodies = await joinedBodies();
    const sized = bodies.flatMap(({ joined }) => {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(joined.byteLength);
      return [size, joined];
    });
    const read = execFileSync(findProgram('python3')!, ['-c', READ_FIRST_MEMBERS], {
      input: Buffer.concat(sized),
      maxBuffer: MAX_BYTES,
    });
    expect(read.toString().trim().split('\n')).toEqual(
      bodies.map(({ plain }) => `${plain.byteLength} ${crc32(plain)} True 0`),
    );
  });

  it.skipIf(without('gzip'))('are read completely by gzip', async () => {
    const bodies = await joinedBodies();
    const read = execFileSync(findProgram('gzip')!, ['-dc'], {
      input: Buffer.concat(bodies.map(({ joined }) => joined)),
      maxBuffer: MAX_BYTES,
    });
    expect(read.equals(Buffer.concat(bodies.map(({ plain }) => plain)))).toBe(true);
  });
});
