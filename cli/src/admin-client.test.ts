import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AdminClient } from './admin-client.ts';
import { showCommand, statsCommand } from './commands/dlq.ts';
import { doctorCommand } from './commands/doctor.ts';
import { eventsCommand } from './commands/events.ts';
import { reloadCommand } from './commands/reload.ts';
import { tapCommand } from './commands/tap.ts';

/** Clears the screen, and sets the title of the terminal; with one of the controls that are a single character. */
const ESCAPES = '\u001b[2J\u001b]0;title\u0007\u009b31m';
const MIB = 2 ** 20;
const odd = `x${ESCAPES}`;
const area = { segments: 0, records: 1, items: 1, diskBytes: 1, waitingBytes: 1, oldestReceivedAt: 1 };
const ANSWERS: Record<string, unknown> = {
  '/api/dlq/records/b1': {
    ...{ id: odd, area: odd, class: odd, signal: odd, items: 1, encoding: odd, payloadBytes: 1 },
    ...{ receivedAt: 1, segment: 1, reason: odd, message: odd, done: false },
  },
  '/api/dlq': {
    ...{ state: odd, fault: odd, utilization: 0, diskBytes: 1, ballastBytes: 1, areas: { [odd]: area } },
    replay: { bytesPerSecond: 1, capBytesPerSecond: 1, drainSeconds: 1, order: { areas: [odd] } },
  },
  '/api/events': { events: [{ at: 1, level: 'info', service: odd, message: odd }], problem: odd },
  '/api/doctor': {
    ...{ jobs: 1, payloads: 1, tookMs: 1, repair: false },
    damage: [{ kind: odd, level: 'note', text: odd, todo: odd, count: 1, examples: [odd], mended: 0 }],
  },
  '/api/config/reload': { changes: [{ path: odd, from: odd, to: odd, live: true }] },
  '/api/tap': {
    ...{ at: 1, signal: odd, class: odd, service: odd, name: odd, about: { kind: odd, [odd]: odd } },
    ...{ traceId: odd, spanId: odd, attributes: { [odd]: odd }, resource: { [odd]: odd } },
  },
};

/** Sent in pieces. */
const LONG = `${'x'.repeat(8 * MIB)}\n\nlast`;
const server = createServer((request, response) => {
  const path = request.url!.split('?')[0]!;
  if (path === '/long') {
    response.end(LONG);
    return;
  }
  const answer = ANSWERS[path];
  if (answer === undefined) response.statusCode = 500;
  response.end(`${JSON.stringify(answer ?? { error: { message: `${odd}\n  ${odd}` } })}\n`);
});
let admin: string;
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  admin = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());

async function printed(command: () => Promise<void>): Promise<string> {
  let all = '';
  const take = (text: string | Uint8Array) => {
    all += text.toString();
    return true;
  };
  const spies = [process.stdout, process.stderr].map((out) =>
    vi.spyOn(out, 'write').mockImplementation(take),
  );
  try {
    await command();
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = 0;
  }
  return all;
}

describe('a server that answers with escape sequences', () => {
  it.each<[string, () => Promise<void>]>([
    ['dlq show', () => showCommand('b1', { admin })],
    ['dlq stats', () => statsCommand({ admin })],
    ['events', () => eventsCommand({ admin, limit: 10 })],
    ['doctor', () => doctorCommand({ admin })],
    ['reload', () => reloadCommand({ admin })],
    ['tap', () => tapCommand({ admin, limit: 1, seconds: 1 })],
  ])('has none of them printed by %s', async (_name, command) => {
    const text = await printed(command);
    expect(text).toContain('x [2J');
    expect(text).not.toMatch(/[^\P{Cc}\n]/u);
  });

  it('has none of them in an error, which may have several lines', async () => {
    await expect(showCommand('none', { admin })).rejects.toThrow(/^x \[2J[^\p{Cc}]*\n {2}x \[2J[^\p{Cc}]*$/u);
  });
});

it('reads a line of any length, and looks at each part of it once', async () => {
  const split = vi.spyOn(String.prototype, 'split');
  const lengths: number[] = [];
  for await (const line of new AdminClient({ admin }).lines('/long', new AbortController().signal))
    lengths.push(line.length);
  const looked = split.mock.contexts.reduce((sum: number, text) => sum + String(text).length, 0);
  split.mockRestore();
  expect(lengths).toEqual([8 * MIB, 0, 4]);
  expect(looked).toBeLessThan(2 * LONG.length);
});
