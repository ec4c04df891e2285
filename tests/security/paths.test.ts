/** Ids and areas are names to look for, never parts of a path. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AREAS, NodeFileSystem, SegmentLog } from '@nrdot/segment-log';
import { AdminServer } from '@nrdot/service';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DirectIntake } from '../../services/dlq/src/direct-intake.ts';
import { Ledger } from '../../services/dlq/src/ledger.ts';
import { addRoutes } from '../../services/dlq/src/routes.ts';
import { options } from '../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';

const log = createLogger({ level: 'silent', format: 'json' });
const listen = { host: '127.0.0.1', port: 0 };
const SECRET = 'root:';
const HOSTILE = [
  '../../../../etc/passwd',
  '..%2f..%2f..%2fetc%2fpasswd',
  '%2e%2e/%2e%2e/etc/passwd',
  '..%5c..%5cetc',
  '%00',
  'b1%00.seg',
  '.',
  '..',
  '%2fetc%2fpasswd',
  'file:%2f%2f%2fetc%2fpasswd',
  `b${'x'.repeat(200)}`,
];

let root: string;
let segments: SegmentLog;
let admin: AdminServer;
let direct: DirectIntake;
let ports: { admin: number; direct: number };
const taken: string[] = [];
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'nrdot-paths-'));
  segments = await SegmentLog.open({
    ...options(new SimulatedDisk(() => 0.5)).o,
    dir: join(root, 'dlq'),
    fs: new NodeFileSystem(),
  });
  admin = new AdminServer({ listen }, new MetricsRegistry(['dlq']), log);
  addRoutes(admin, {
    segments,
    replayer: {} as never,
    rate: { bytesPerSecond: 1 } as never,
    log,
    now: Date.now,
  });
  const intake = {
    write: async ({ id }: { id: string }) => {
      taken.push(id);
      return { area: 'normal' as const, fresh: true };
    },
  };
  direct = new DirectIntake(
    { listen, maxBytes: 1_000, maxInflightBytes: 1_000 },
    intake as never,
    await Ledger.open(join(root, 'dlq')),
    log,
  );
  ports = { admin: (await admin.start()).port, direct: (await direct.start()).port };
});
afterAll(async () => {
  await admin.stop();
  await direct.stop();
  await segments.close();
  rmSync(root, { recursive: true });
});

/** `fetch` would tidy the path up first. */
function ask(
  port: number,
  method: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end(method === 'POST' ? 'payload' : undefined);
  });
}

it.each(HOSTILE)('the dlq shows nothing for the id %s', async (id) => {
  for (const path of [
    `/api/dlq/records/${id}`,
    `/api/dlq/segments/${id}/1`,
    `/api/dlq/segments/normal/${id}`,
    `/api/dlq/records?area=${id}`,
    `/${id}`,
  ]) {
    const { status, text } = await ask(ports.admin, 'GET', path);
    expect([400, 404, 414], `${path}: ${status}`).toContain(status);
    expect(text).not.toContain(SECRET);
  }
});

it.each(HOSTILE)('the intake without Redis accepts no batch with the id %s', async (id) => {
  const headers = {
    'x-nrdot-signal': 'traces',
    'x-nrdot-class': 'normal',
    'x-nrdot-encoding': 'identity',
    'x-nrdot-items': '1',
    'x-nrdot-received-at': '1',
  };
  const { status } = await ask(ports.direct, 'POST', `/v1/batches/${id}`, headers);
  expect([400, 404, 414]).toContain(status);
  expect(taken).toEqual([]);
});

it('the dlq has created only its own files', () => {
  expect(readdirSync(root)).toEqual(['dlq']);
  expect(
    readdirSync(join(root, 'dlq'))
      .filter((name) => !(AREAS as readonly string[]).includes(name))
      .sort(),
  ).toEqual([]);
});
