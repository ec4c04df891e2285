/** Who may write to the dlq's disk, turn the mock upstream off, and under which addresses a service is found. */
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Batch } from '@nrdot/queue';
import { createLogger } from '@nrdot/telemetry';
import { startMockUpstream, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DirectIntake, type DirectIntakeOptions } from '../../services/dlq/src/direct-intake.ts';
import { Ledger } from '../../services/dlq/src/ledger.ts';
import { DlqClient } from '../../services/receiver/src/dlq-client.ts';
import { loadConfig } from '../../shared/config/src/index.ts';
import { post, startReceiver } from './receiver.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'nrdot-asks-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const BATCH = {
  id: 'b1',
  signal: 'logs',
  class: 'normal',
  origin: 'live',
  encoding: 'identity',
  items: 1,
  receivedAt: 1_000,
  payload: Buffer.from('payload'),
} as const satisfies Batch;

async function intake(options: Partial<DirectIntakeOptions>) {
  const taken: string[] = [];
  const times: number[] = [];
  const direct = new DirectIntake(
    { listen: { host: '127.0.0.1', port: 0 }, maxBytes: 1_000, maxInflightBytes: 5_000, ...options },
    {
      has: () => false,
      write: async ({ id, receivedAt }: { id: string; receivedAt: number }) => {
        taken.push(id);
        times.push(receivedAt);
        return { area: 'normal' as const, fresh: true };
      },
    } as never,
    await Ledger.open(dir),
    createLogger({ level: 'silent', format: 'json' }),
  );
  const { port } = await direct.start();
  return { direct, taken, times, url: `http://127.0.0.1:${port}` };
}

describe("the dlq's intake", () => {
  it('accepts only requests with its token', async () => {
    const { direct, taken, url } = await intake({ token: 'word' });
    for (const token of [undefined, 'wrong', 'word2', '']) {
      const client = new DlqClient(url, { token });
      await expect(client.store(BATCH)).rejects.toThrow(/401/);
      client.close();
    }
    expect(taken).toEqual([]);
    const client = new DlqClient(url, { token: 'word' });
    await client.store(BATCH);
    client.close();
    await direct.stop();
    expect(taken).toEqual(['b1']);
  });

  it('rejects requests from a browser, and impossible item counts', async () => {
    const { direct, taken, url } = await intake({});
    const headers = {
      'x-nrdot-signal': 'logs',
      'x-nrdot-class': 'normal',
      'x-nrdot-items': '1',
      'x-nrdot-encoding': 'identity',
      'x-nrdot-received-at': '1',
    };
    const status = async (more: Record<string, string>) => {
      const sent = { method: 'POST', body: 'payload', headers: { ...headers, ...more } };
      return (await fetch(`${url}/v1/batches/b1`, sent)).status;
    };
    expect(await status({ origin: 'http://rebound.example' })).toBe(403);
    expect(await status({ 'sec-fetch-site': 'same-origin' })).toBe(403);
    expect(await status({ 'x-nrdot-items': String(Number.MAX_SAFE_INTEGER) })).toBe(400);
    for (const noDigits of ['1e3', '0x10', '+1', '1.0', '1 1', '']) {
      expect(await status({ 'x-nrdot-items': noDigits }), noDigits).toBe(400);
      expect(await status({ 'x-nrdot-received-at': noDigits }), noDigits).toBe(400);
    }
    expect(taken).toEqual([]);
    expect(await status({})).toBe(200);
    await direct.stop();
    expect(taken).toEqual(['b1']);
  });

  it('rejects impossible receive times', async () => {
    const { direct, times, url } = await intake({});
    const before = Date.now();
    const store = async (id: string, receivedAt: number) => {
      const client = new DlqClient(url, {});
      await client.store({ ...BATCH, id, receivedAt });
      client.close();
    };
    const anHourAgo = before - 3_600_000;
    await store('t1', anHourAgo);
    for (const [i, wrong] of [1, before + 3_600_000, 8.64e15 + 1, Number.MAX_SAFE_INTEGER].entries())
      await store(`w${i}`, wrong);
    for (const none of [0, -1, 1.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1])
      await expect(store('n1', none)).rejects.toThrow(/400/);
    await direct.stop();
    expect(times[0]).toBe(anHourAgo);
    expect(times).toHaveLength(5);
    for (const time of times.slice(1)) {
      expect(time).toBeGreaterThan(anHourAgo);
      expect(time).toBeLessThan(before + 3_600_000);
    }
  });

  it('holds no more than its limit, however many send, nor for longer than a request may take', async () => {
    const { direct, taken, url } = await intake({ maxInflightBytes: 3_000, requestTimeoutMs: 2_000 });
    const payload = Buffer.alloc(1_000, 'x');
    const headers = {
      ...{ 'x-nrdot-signal': 'logs', 'x-nrdot-class': 'normal', 'x-nrdot-items': 1 },
      ...{ 'x-nrdot-encoding': 'identity', 'x-nrdot-received-at': 1, 'content-length': payload.byteLength },
    };
    /** All of it but the last byte. */
    const begin = (id: string) => {
      const sent = request(`${url}/v1/batches/${id}`, { method: 'POST', headers });
      sent.write(payload.subarray(1));
      const answered = new Promise<number | string>((resolve) => {
        sent.on('response', (response) => resolve(response.resume().statusCode!));
        sent.on('error', ({ message }) => resolve(message));
      });
      return { sent, answered };
    };
    const halves = ['h1', 'h2', 'h3'].map(begin);
    const client = new DlqClient(url, {});
    const store = (id: string) => client.store({ ...BATCH, id, payload });
    await waitUntil(
      () =>
        store('b1').then(
          () => false,
          (error: Error) => /503/.test(error.message),
        ),
      {
        what: 'there is no room',
      },
    );
    halves[0]!.sent.end('x');
    expect(await halves[0]!.answered).toBe(200);
    // Those that never end are cut off, and their room is free again.
    expect(await Promise.all(halves.slice(1).map(({ answered }) => answered))).toEqual([408, 408]);
    await store('b2');
    await expect(client.store({ ...BATCH, payload: Buffer.alloc(1_001) })).rejects.toThrow(/413/);
    const tooLarge = request(`${url}/v1/batches/l1`, {
      ...{ method: 'POST', headers: { ...headers, 'content-length': 1_001 } },
    });
    tooLarge.flushHeaders();
    expect(
      await new Promise((resolve) => tooLarge.on('response', ({ statusCode }) => resolve(statusCode))),
    ).toBe(413);
    tooLarge.destroy();
    client.close();
    await direct.stop();
    expect(taken).toEqual(expect.arrayContaining(['h1', 'b2']));
  });

  it('does not listen beyond loopback without a token; the admin token suffices', async () => {
    for (const host of ['0.0.0.0', '::', '10.0.0.1'])
      await expect(intake({ listen: { host, port: 0 } })).rejects.toThrow(/dlq\.token or admin\.token/);
    const token = (text: string) => loadConfig({ env: {}, text }).config.dlq.token?.reveal();
    expect(token('admin: {token: a}')).toBe('a');
    expect(token('{admin: {token: a}, dlq: {token: d}}')).toBe('d');
    expect(token('{}')).toBeUndefined();
  });
});

describe("the mock upstream's controls", () => {
  it('accept commands, but no page of another site', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    const port = Number(new URL(mock.url).port);
    const ask = (method: string, path: string, headers: Record<string, string> = {}) =>
      new Promise<number>((resolve, reject) => {
        request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
          response.resume();
          resolve(response.statusCode!);
        })
          .on('error', reject)
          .end();
      });
    const off = () => ask('POST', '/_mock/outage/on', {});
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { host: `evil.example:${port}` },
    ] as Record<string, string>[]) {
      for (const path of ['/_mock/outage/on', '/_mock/reset'])
        expect(await ask('POST', path, headers)).toBe(403);
      expect(await ask('GET', '/_mock/received', headers)).toBe(403);
      expect(mock.behaviour().outage).toBe(false);
    }
    expect(await ask('GET', '/_mock/stats', { host: 'evil.example' })).toBe(403);
    expect(await ask('GET', '/_mock/stats', { host: `mock-upstream:${port}` })).toBe(200);
    expect(await off()).toBe(200);
    expect(mock.behaviour().outage).toBe(true);
    await mock.close();
  });
});

const hasIPv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ family }) => family === 'IPv6'),
);

describe('an address without a host', () => {
  it(`is all addresses, of both families${hasIPv6 ? '' : ' (no IPv6 here: of IPv4)'}`, async () => {
    const { host } = loadConfig({ env: {}, text: 'receiver: {listen: ":4318"}' }).config.receiver.listen;
    const receiver = await startReceiver({ listen: { host, port: 0 } });
    for (const address of ['127.0.0.1', ...(hasIPv6 ? ['[::1]'] : [])])
      expect((await post(`http://${address}:${receiver.port}`)).status, address).toBe(200);
    await receiver.stop();
  });
});
