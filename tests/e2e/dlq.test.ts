import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jsonToProtobuf, type Signal, walk } from '@nrdot/otlp';
import { complaint, generate, judge, startMockUpstream, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { accounting, type Running, scrape, startOne, untilQuiet } from '../kit.ts';

// A command is a process of its own; on a machine that is busy some of them take their time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const NRDOT = fileURLToPath(new URL('../../cli/bin/nrdot.js', import.meta.url));
const LOAD = {
  rate: 0,
  batchSize: 50,
  signals: { traces: 2, metrics: 1, logs: 1 },
  classes: { critical: 1, high: 1, normal: 1 },
  retryInitialMs: 20,
  connections: 8,
} as const;
const ITEMS = 1_500;
const REFUSED = 100;
const RESERVE = 4 * 1024 ** 3;
const CLASSES = ['critical', 'high', 'normal'] as const;

interface State {
  areas: Record<string, { items: number; records: number }>;
  replay: { paused: boolean; outstanding: number; capBytesPerSecond: number; drainSeconds: number };
}

interface Batch {
  id: string;
  area: string;
  class: string;
  items: number;
  reason: string;
  status?: number;
  message?: string;
}

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let running: Running;
let refused: Awaited<ReturnType<typeof generate>>;
let kept: Awaited<ReturnType<typeof generate>>;

/** Runs `nrdot dlq …` as a person would. */
function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [NRDOT, 'dlq', ...args],
      { cwd: dir.path, maxBuffer: 64 * 1024 * 1024 },
      (error, out, err) => resolve({ code: Number(error?.code ?? 0), out, err }),
    );
  });
}

/** Against the running pipeline; it has to do. */
async function dlq(...args: string[]): Promise<string> {
  const { code, out, err } = await run(...args, '--admin', running.admin);
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  return out;
}

async function json<T>(...args: string[]): Promise<T> {
  return JSON.parse(await dlq(...args, '--json')) as T;
}

/** Of the admin API itself, which costs no process. */
async function api<T>(path: string, method = 'GET'): Promise<T> {
  return (await (await fetch(`${running.admin}/api/dlq${path}`, { method })).json()) as T;
}

async function refusal(...args: string[]): Promise<string> {
  const { code, out, err } = await run(...args, '--admin', running.admin);
  expect({ code, out }).toEqual({ code: 1, out: '' });
  return err;
}

/** Items of exported lines, each of which has to be a request that a receiver takes. */
function itemsOf(lines: string): number {
  const roots: Record<string, Signal> = {
    resourceSpans: 'traces',
    resourceMetrics: 'metrics',
    resourceLogs: 'logs',
  };
  return lines
    .split('\n')
    .filter(Boolean)
    .reduce((sum, line) => {
      const signal = roots[Object.keys(JSON.parse(line) as object)[0]!]!;
      return sum + walk(signal, jsonToProtobuf(signal, Buffer.from(line))).items;
    }, 0);
}

async function untilOnDisk(items: number): Promise<void> {
  await waitUntil(
    async () => {
      const books = await accounting(running.admin);
      return books.queued === 0 && books.on_disk === items && books.difference === 0;
    },
    { what: `${items} items are on disk`, everyMs: 100 },
  );
}

beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  running = await startOne(dir.path, mock, { dlq: { replay_rate: '1MiB', reserve: RESERVE } });
  mock.set({ refuseRate: 1 });
  refused = await generate({ ...LOAD, endpoint: running.otlp, items: REFUSED });
  await waitUntil(async () => (await accounting(running.admin)).rejected === REFUSED, {
    what: 'what was rejected is in the rejected area',
  });
  mock.set({ refuseRate: 0, outage: true });
  kept = await generate({ ...LOAD, endpoint: running.otlp, items: ITEMS });
  await untilOnDisk(ITEMS);
});

afterAll(async () => {
  await running?.[Symbol.asyncDispose]();
  await mock?.close();
  dir?.[Symbol.dispose]();
});

describe('nrdot dlq, in an outage', () => {
  it('stats shows what is on disk and when it will be drained', async () => {
    const state = await json<State>('stats');
    expect(CLASSES.reduce((sum, c) => sum + state.areas[c]!.items, 0)).toBe(ITEMS);
    expect(state.areas.rejected!.items).toBe(REFUSED);
    expect(state.replay.drainSeconds).toBeGreaterThan(0);
    const text = await dlq('stats');
    expect(text).toMatch(/^state +ok$/m);
    expect(text).toMatch(/^drained +in \d+ s at this rate$/m);
    expect(text).toMatch(/^rejected +\d+ +100 +1 /m);
  });

  it('the free disk among the metrics is what the dlq may use: not its reserve', async () => {
    const free = (await scrape(running.admin)).find(({ name }) => name === 'dlq_disk_free_bytes')!.value;
    const { bavail, bsize } = statfsSync(dir.path);
    // Others write to this disk meanwhile, but not half of the reserve.
    expect(Math.abs(bavail * bsize - RESERVE - free)).toBeLessThan(RESERVE / 2);
  });

  it('ls and show list batches and segments, without payloads', async () => {
    const { records } = await json<{ records: Batch[] }>('ls', '--rejected');
    // An upstream that refuses all of it was asked for smaller pieces.
    expect(records.reduce((sum, { items }) => sum + items, 0)).toBe(REFUSED);
    expect(records[0]).toMatchObject({
      area: 'rejected',
      reason: 'rejected:status_400',
      status: 400,
      message: 'refused for good',
    });
    const critical = await json<{ records: Batch[] }>('ls', '--class', 'critical', '--since', '1h');
    expect(critical.records.length).toBeGreaterThan(0);
    expect(critical.records.every((batch) => batch.class === 'critical')).toBe(true);
    expect((await api<{ records: Batch[] }>('/records?until=1000')).records).toEqual([]);
    const text = await dlq('ls', '--limit', '3');
    expect(text).toMatch(/^ID +AREA +SIGNAL +ITEMS/);
    expect(text).toContain('There are more: --limit N');
    const { id } = critical.records[0]!;
    const shown = await dlq('show', id);
    expect(shown).toMatch(new RegExp(`^batch +${id}$`, 'm'));
    expect(shown).toMatch(/^reason +breaker:failures$/m);
    expect(await api(`/records/${records[0]!.id}`)).toMatchObject({ ...records[0], done: false });
    expect(await dlq('ls', '--segments')).toMatch(/^critical\/\d+ +\S+ +no +\d+/m);
    expect(await dlq('show', 'rejected/1')).toMatch(/^state +(open|replaying|sealed)/m);
    // Payloads have resources, and what is shown has none of them.
    expect(text + shown).not.toMatch(/service\.name|resource/);
  });

  it('allows no access to files by id or name', async () => {
    expect(await refusal('show', 'nothing-like-it')).toContain(
      'there is no batch nothing-like-it on the disk',
    );
    expect(await refusal('show', '../ledger.json')).toContain('expected the id of a batch, or a segment');
    for (const path of [
      'records/..%2F..%2Fledger.json',
      'records/%00',
      'segments/..%2F..%2Fetc/1',
      'segments/normal/..%2F1',
      'segments/normal/99',
      'records?area=..%2F..',
      'export?class=..%2Fnormal',
      'export?area=%2Fetc',
    ]) {
      const response = await fetch(`${running.admin}/api/dlq/${path}`);
      expect([400, 404], path).toContain(response.status);
      expect(await response.text()).toMatch(/"message":"[^"]/);
    }
  });

  it('export writes OTLP JSON that a receiver accepts, and removes nothing', async () => {
    const file = join(dir.path, 'batches.jsonl');
    await dlq('export', '--output', file);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(itemsOf(readFileSync(file, 'utf8'))).toBe(ITEMS + REFUSED);
    expect(await refusal('export', '--output', file)).toContain('it already exists');
    const exported = async (query: string) =>
      itemsOf(await (await fetch(`${running.admin}/api/dlq/export?${query}`)).text());
    const { areas } = await api<State>('');
    expect(await exported('rejected')).toBe(REFUSED);
    expect(await exported('class=high')).toBe(areas.high!.items);
    expect(await exported('until=1000')).toBe(0);
  });

  it('verify finds everything intact', async () => {
    expect(await dlq('verify')).toMatch(/^SEGMENT +STATE/);
  });

  it('errors say what to do', async () => {
    expect(await refusal('ls', '--since', 'yesterday')).toContain('expected how long ago, such as 2h');
    expect(await refusal('purge', '--class', 'normal')).toMatch(
      /This would permanently drop \d+ items in normal/,
    );
    expect((await run('stats', '--admin', '127.0.0.1:1')).err).toContain('nothing answers at');
    const said = async (path: string) => JSON.stringify(await api(path, 'POST'));
    expect(await refusal('purge', '--rejected', '--class', 'normal')).toContain('not both');
    expect(await said('/purge')).toContain('yes: true');
    expect(await said('/purge?yes=true&rejected=true&class=high')).toContain('purge drops whole areas');
    expect(await said('/replay?rate=fast')).toContain('rate: expected bytes per second');
    expect(await said('/replay?since=2&until=1')).toContain('since is after until');
  });
});

describe('nrdot dlq, when the upstream is back', () => {
  it('pause keeps everything on disk, and replay releases the requested part', async () => {
    await dlq('pause');
    const { areas, replay } = await api<State>('');
    expect(replay.paused).toBe(true);
    mock.set({ outage: false });
    await api('/replay?until=1000', 'POST'); // nothing is that old
    await dlq('replay', '--class', 'critical', '--since', '1h', '--rate', '64MiB');
    await untilOnDisk(ITEMS - areas.critical!.items);
    expect(mock.received(kept.run).count).toBe(areas.critical!.items);
    expect((await api<State>('')).replay.capBytesPerSecond).toBe(64 * 1024 * 1024);
  });

  it('replay --rejected sends rejected batches again', async () => {
    await dlq('replay', '--rejected');
    await waitUntil(async () => (await accounting(running.admin)).rejected === 0, {
      what: 'the rejected area is empty',
    });
    expect(complaint(judge(refused, mock.received(refused.run)))).toBe('');
  });

  it('purge --yes drops a class, which is accounted for as dropped', async () => {
    const { areas } = await api<State>('');
    const purged = await json<{ items: number; heldItems: number }>('purge', '--class', 'normal', '--yes');
    expect(purged).toMatchObject({ items: areas.normal!.items, heldItems: 0 });
    await untilOnDisk(areas.high!.items);
    expect(await accounting(running.admin)).toMatchObject({ dropped: purged.items, difference: 0 });
    const samples = await scrape(running.admin);
    const counted = samples.find(
      ({ name, labels }) => name === 'pipeline_dropped_items_total' && labels.reason === 'purged',
    );
    expect(counted?.value).toBe(purged.items);
  });

  it('resume replays the rest, each batch once', async () => {
    await dlq('resume');
    const { accepted, delivered, dropped } = await untilQuiet(running.admin);
    expect(delivered + dropped).toBe(accepted);
    expect(mock.stats().duplicates).toBe(0);
  });

  it('purge spares batches in flight, which are delivered and not counted as dropped', async () => {
    const { dropped: before } = await accounting(running.admin);
    mock.set({ outage: true });
    const report = await generate({ ...LOAD, endpoint: running.otlp, items: ITEMS });
    await untilOnDisk(ITEMS);
    mock.set({ outage: false, latencyMs: 1_000 });
    await api(`/replay?rate=${64 * 1024}`, 'POST');
    await waitUntil(async () => (await api<State>('')).replay.outstanding > 0, {
      what: 'batches are in flight',
      everyMs: 10,
    });
    const { items, heldItems } = await api<{ items: number; heldItems: number }>('/purge?yes=true', 'POST');
    expect(items).toBeGreaterThan(0);
    expect(heldItems).toBeGreaterThan(0);
    const books = await untilQuiet(running.admin);
    expect(books.dropped - before).toBe(items);
    expect(mock.received(report.run).count).toBe(ITEMS - items);
  });
});

describe('nrdot dlq, on the directory of a pipeline that is down', () => {
  it('verifies and exports it, and reports what damage costs', async () => {
    mock.set({ outage: true, latencyMs: 0 });
    await generate({ ...LOAD, endpoint: running.otlp, items: ITEMS });
    await untilOnDisk(ITEMS);
    expect(await running.processes.up!.end('SIGTERM')).toBe(0);
    const data = join(dir.path, 'data', 'dlq');
    const offline = (command: string) => run(command, '--dir', data);
    const sound = await offline('verify');
    expect(sound.code).toBe(0);
    expect(sound.out).toMatch(/^FILE +STATE/);
    expect(itemsOf((await offline('export')).out)).toBe(ITEMS);
    const name = readdirSync(join(data, 'high')).find((each) => /\.(open|seg)$/.test(each))!;
    const file = join(data, 'high', name);
    const bytes = readFileSync(file);
    bytes[700]! ^= 1;
    writeFileSync(file, bytes);
    const damaged = await offline('verify');
    expect(damaged.code).toBe(1);
    expect(damaged.out).toMatch(/bytes \d+ to \d+ can't be read/);
    const rest = await offline('export');
    expect(itemsOf(rest.out)).toBeLessThan(ITEMS);
    expect(rest.err).toMatch(/\d+ are damaged; "nrdot dlq verify --dir/);
    expect((await run('verify', '--dir', dir.path)).err).toContain('there are no segments');
  });
});
