/** What `nrdot status` tells a person while something is wrong: where the data is, whether any was lost, what to do. */
import type { PipelineStatus } from '@nrdot/status';
import {
  generate,
  startMockUpstream,
  startNrdot,
  TestRedis,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Running, startOne } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
beforeEach(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0' });
});
afterEach(async () => {
  await mock.close();
  dir[Symbol.dispose]();
});

interface Told {
  code: number | string;
  /** With the breaks of lines undone: where they are depends on the length of numbers. */
  text: string;
}

async function nrdot(...args: string[]): Promise<Told> {
  await using child = startNrdot(args, { NO_COLOR: '1' }, dir.path);
  const code = await new Promise<number | string>((resolve) =>
    child.child.once('close', (status, signal) => resolve(status ?? signal ?? 0)),
  );
  return { code, text: child.output(1_000).replace(/\n {2,}/g, ' ') };
}

async function statusOf({ admin }: Running): Promise<PipelineStatus> {
  return (await (await fetch(`${admin}/api/status`)).json()) as PipelineStatus;
}

/** The status as soon as it tells of this. What is said of the present needs more to happen while it is read: `goesOn`. */
async function told(
  running: Running,
  finding: RegExp,
  goesOn: () => Promise<unknown> = async () => {},
): Promise<Told> {
  let seen: Told | undefined;
  try {
    return await waitUntil(
      async () => {
        seen = await nrdot('status', '--admin', running.admin);
        if (finding.test(seen.text)) return seen;
        await goesOn();
        return undefined;
      },
      { what: `the status has the finding ${finding}`, timeoutMs: 60_000, everyMs: 200 },
    );
  } catch (error) {
    throw new Error(`the status never said ${finding}; at last it said:\n${seen?.text}`, { cause: error });
  }
}

const load = (running: Running, items: number, batchSize = 500) =>
  generate({
    endpoint: running.otlp,
    items,
    batchSize,
    rate: 0,
    classes: { normal: 1 },
    signals: { logs: 1 },
  });

describe('nrdot status', () => {
  it('reports how much was dropped and by which limit, and claims nothing else', async () => {
    mock.set({ status: 400 });
    await using running = await startOne(dir.path, mock, {
      dlq: { rejected_capacity: '1MiB', segment_bytes: '1MiB' },
    });
    await load(running, 60_000);
    const { code, text } = await told(running, /^FAULT +Data is being dropped\./m, () =>
      load(running, 6_000),
    );
    expect(code, text).toBe(4);
    expect(text).toMatch(
      /^lost +[\d,]+ of [\d,]+ accepted items were dropped: [\d,]+ rejected_capacity\. (All others|Counts)/m,
    );
    expect(text).toMatch(
      /→ rejected_capacity: fix the cause of the rejections .*or raise dlq\.rejected_capacity and dlq\.capacity\./,
    );
    expect(text).not.toMatch(/nothing is lost|Nothing: every/i);
    expect(text.match(/accepted items were dropped/g)).toHaveLength(1);
    expect(text).toMatch(
      /^disk .* [\d,]+ rejected items, \d+ % full: \S+ \S+ of 1\.0 MiB \(dlq\.rejected_capacity\)/m,
    );
    expect(text).toMatch(/ rejected +- +- +[\d,]+ +\d+ s +- +-/);
  });

  it('reports an upstream that answers 404 to everything as a fault, and names the option', async () => {
    mock.set({ status: 404 });
    await using running = await startOne(dir.path, mock);
    await load(running, 500, 50);
    const { code, text } = await told(running, /^FAULT +Delivery (is|has been) paused/m);
    expect(code, text).toBe(4);
    expect(text).toMatch(/the address does not answer like an upstream — .*404/);
    expect(text).toMatch(/→ Set the right exporter\.endpoint/);
    const checked = await nrdot('check', 'upstream', '--upstream', mock.url);
    expect(checked.code).toBe(4);
    expect(checked.text).toMatch(/traces +FAILS .*address: answers 404/);
  });

  it('reports a refused key as a fault, which ends when it is corrected', async () => {
    mock.set({ status: 401 });
    await using running = await startOne(dir.path, mock);
    await load(running, 500, 50);
    const { code, text } = await told(running, /^note +500 items are on disk/m);
    expect(code, text).toBe(4);
    expect(text).toMatch(/^FAULT +Delivery .* the upstream refuses the key \(401 or 403\) — .*Unauthorized/m);
    expect(text).toMatch(/→ Set the right key in exporter\.headers, then "nrdot reload"\./);
    expect(text).toMatch(/is replayed automatically once that is fixed; this takes about [1-9]/);
    // As soon as what Redis counts and what the dlq counts are of one moment.
    await told(running, /^lost +Nothing: every accepted item is delivered, or kept in Redis or on disk\.$/m);
    expect(text.match(/New data goes to disk\./g)).toHaveLength(1);
    expect(text).toMatch(/ normal +[\d,]+ +\d+ +500 +\d+ s /); // the oldest on disk
    // Probes are put back into the queue, and are not back for that.
    const replay = async () => (await statusOf(running)).dlq?.replay;
    await waitUntil(async () => ((await replay())?.replayedItems ?? 0) > 0, {
      what: 'a probe came from the disk',
    });
    expect((await replay())?.returnedItems).toBe(0);
    mock.set({ status: 0 });
    await waitUntil(async () => (await replay())?.returnedItems === 500, {
      what: 'all items are back',
      timeoutMs: 60_000,
    });
  });

  it('says who accepts data while Redis is away, and how to start Redis', async () => {
    const redis = await TestRedis.start({ dir: dir.path });
    await using running = await startOne(dir.path, mock, { redis: { url: redis.url } });
    await redis.kill();
    const { code, text } = await told(running, /^FAULT +Redis cannot be used: Redis at redis:/m);
    expect(code, text).toBe(4);
    expect(text).toContain(
      `→ Start Redis again (${redis.url}) with its AOF; never start an empty one in its place. "redis-cli -u ${redis.url} ping" shows whether it answers. docs/operations.md#nrdotredisaway`,
    );
    expect(text).toMatch(/^data .* Receivers accept new data: it goes straight to the dlq's disk\./m);
    expect(text).toMatch(/ receiver +accepts, straight to disk /);
    expect(text).toMatch(/ exporter +waits for Redis /);
    expect(text).not.toContain('not ready');
    await load(running, 100); // and so it is
    await told(running, /^note +100 items are on disk/m);
  });

  it('does not promise a replay while an operator has paused it', async () => {
    mock.set({ outage: true });
    await using running = await startOne(dir.path, mock);
    await load(running, 500, 50);
    await told(running, /^note +500 items are on disk/m);
    expect((await nrdot('dlq', 'pause', '--admin', running.admin)).code).toBe(0);
    mock.set({ outage: false });
    await waitUntil(
      async () => {
        await load(running, 10, 10); // nothing comes from the disk by which the upstream could be tried
        return /^breaker +closed/m.test((await nrdot('status', '--admin', running.admin)).text);
      },
      { what: 'the upstream accepts data again', timeoutMs: 60_000 },
    );
    const { text } = await told(
      running,
      /^WARNING +Replay was paused by an operator; [\d,]+ items are on disk/m,
    );
    expect(text).toMatch(/^data .* Data on disk stays there until "nrdot dlq resume"\./m);
    expect(text).not.toMatch(/by itself|automatically|is (being )?replayed/);
  });

  it('does not claim that a full disk accepts data, or that room is unlimited', async () => {
    mock.set({ outage: true });
    await using running = await startOne(dir.path, mock, {
      dlq: { capacity: '1MiB', segment_bytes: '1MiB', ballast: '64KiB' },
    });
    await load(running, 60_000);
    const { code, text } = await told(running, /^FAULT +The disk accepts nothing: .*capacity/m);
    expect(code, text).toBe(4);
    expect(text).toMatch(
      /^data .* New data waits in Redis \(\d+ % full\); when that is full, clients get 503 and keep their data\./m,
    );
    expect(text).not.toMatch(/goes (straight )?to disk\./);
    expect(text).not.toMatch(/\d{7,} bytes/);
  });
});
