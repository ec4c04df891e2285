/** A client that is refused while it still sends hears why, and is not held for ever. */
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { post, startReceiver } from '../security/receiver.ts';

const LIMITS = { maxBodyBytes: 8_000_000, maxInflightBytes: 16_000_000 };
const BODY_BYTES = 4_000_000;
const CHUNK = Buffer.alloc(64 * 1024);

/** Sends a request piece by piece, as a client behind a slower link does. @returns what it heard, and how it ended */
function sendSlowly(port: number, headers: string, bodyBytes: number) {
  return new Promise<{ heard: string; sent: number; error: string | undefined }>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let heard = '';
    let sent = 0;
    let error: string | undefined;
    socket.on('data', (data) => {
      heard += data;
    });
    socket.on('error', ({ message }) => {
      error = message;
    });
    socket.on('close', () => resolve({ heard, sent, error }));
    socket.write(
      `POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n${headers}Content-Length: ${bodyBytes}\r\n\r\n`,
    );
    void (async () => {
      for (; sent < bodyBytes && !socket.destroyed; sent += CHUNK.byteLength) {
        await new Promise((done) =>
          socket.write(CHUNK.subarray(0, Math.min(CHUNK.byteLength, bodyBytes - sent)), done),
        );
        await wait(1);
      }
    })();
  });
}

it('gets the complete 401 or 413 even after sending all of 4 MB', async () => {
  const receiver = await startReceiver({ tokens: ['word'], ...LIMITS });
  const small = await startReceiver({ ...LIMITS, maxBodyBytes: BODY_BYTES - 1 });
  try {
    for (let i = 0; i < 5; i++) {
      const unknown = await sendSlowly(receiver.port, 'Authorization: Bearer other\r\n', BODY_BYTES);
      expect(unknown.error).toBeUndefined();
      expect(unknown.heard).toMatch(/^HTTP\/1\.1 401 [\s\S]*bearer token is missing or wrong/);
      expect(unknown.sent).toBeGreaterThan(BODY_BYTES - 2 * CHUNK.byteLength); // the last one is cut when it was read
    }
    // What is beyond all limits is read up to the limit, and no further.
    const large = await sendSlowly(small.port, '', BODY_BYTES * 4);
    expect(large.heard).toMatch(/^HTTP\/1\.1 413 [\s\S]*larger than/);
    expect(large.sent).toBeLessThan(BODY_BYTES * 3);
  } finally {
    await receiver.stop();
    await small.stop();
  }
});

it('gets 413, not a retryable status, for a request that can never fit', async () => {
  const receiver = await startReceiver({ ...LIMITS, maxInflightBytes: 1_000_000 });
  try {
    const { heard } = await sendSlowly(receiver.port, '', 1_500_000);
    expect(heard).toMatch(/^HTTP\/1\.1 413 [\s\S]*receiver\.max_inflight/);
    expect(heard).not.toMatch(/retry-after/i);
  } finally {
    await receiver.stop();
  }
});

it('announces a body as large as the memory limit but sends nothing: others are served', async () => {
  const receiver = await startReceiver({ ...LIMITS, maxInflightBytes: 8_000_000 });
  const idle = connect(receiver.port, '127.0.0.1');
  try {
    idle.write(
      'POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 8000000\r\n\r\n',
    );
    await wait(100);
    expect((await post(receiver.url)).status).toBe(200);
  } finally {
    idle.destroy();
    await receiver.stop();
  }
});

it.each([
  ['413, not "try again", for what an empty queue would not hold', { bytes: 5, items: 100 }, 413],
  ['503 for what it would', { bytes: 1_000, items: 100 }, 503],
])('gets %s', async (_, queue, status) => {
  const receiver = await startReceiver({ ...LIMITS, queue }, 'full');
  try {
    const answer = await post(receiver.url);
    expect(answer.status).toBe(status);
    expect(await answer.text()).toMatch(/queue\.max_bytes, queue\.max_items/);
    expect(answer.headers.has('retry-after')).toBe(status === 503);
  } finally {
    await receiver.stop();
  }
});
