import { gzipSync } from 'node:zlib';
import type { Batch } from '@nrdot/queue';
import { labelValues } from '@nrdot/telemetry';
import { encodeProtobuf, waitUntil } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { LiveCheck } from './live-check.ts';
import { CHECK_RULE_NAMES } from './rules.ts';

const OLD = Buffer.from(
  encodeProtobuf('logs', { resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: 1_000_000n }] }] }] })
    .bytes,
);
const batch = (payload: Buffer, of: Partial<Batch> = {}): Batch => ({
  id: 'b',
  signal: 'logs',
  class: 'normal',
  origin: 'live',
  encoding: 'identity',
  items: 1,
  receivedAt: 1_000,
  payload,
  ...of,
});

async function settled(check: LiveCheck, batches: number): Promise<void> {
  const all = () => {
    const { checked, skipped } = check.report().batches;
    return checked + skipped === batches;
  };
  await waitUntil(all, { what: 'all were examined', everyMs: 1 });
}

describe('the check of live traffic', () => {
  it('has a count for every rule from the start', () => {
    expect(labelValues('check_items_total', 'rule')).toEqual(CHECK_RULE_NAMES);
  });

  it('checks everything with a share of 1, compressed or not', async () => {
    const check = new LiveCheck(1);
    check.offer(batch(OLD));
    check.offer(batch(gzipSync(OLD), { encoding: 'gzip' }));
    await settled(check, 2);
    expect(check.report()).toMatchObject({
      sample: 1,
      checked: { logs: 2 },
      batches: { checked: 2, skipped: 0 },
    });
    expect(check.totals()).toEqual([{ signal: 'logs', rule: 'log_too_old', items: 2 }]);
  });

  it('checks its share of batches, and none with 0', async () => {
    const draws = [0.1, 0.9, 0.24, 0.25];
    const check = new LiveCheck(0.25, () => draws.shift()!);
    for (let n = 0; n < 4; n++) check.offer(batch(OLD));
    await settled(check, 2);
    check.sample = 0;
    check.offer(batch(OLD));
    expect(check.report().batches).toEqual({ checked: 2, skipped: 0 });
  });

  it('skips and counts batches that are too large or too many at once', async () => {
    const check = new LiveCheck(1);
    check.offer(batch(gzipSync(Buffer.alloc(5 * 1024 * 1024)), { encoding: 'gzip' }));
    await settled(check, 1);
    for (let n = 0; n < 3; n++) check.offer(batch(Buffer.alloc(4 * 1024 * 1024)));
    expect(check.report().batches.skipped).toBe(2);
    await settled(check, 4);
    check.offer(batch(OLD));
    await settled(check, 5);
    expect(check.report().checked).toEqual({ logs: 1 });
  });

  it('yields to other work within a batch, however many items it has', async () => {
    const records = Array.from({ length: 100_000 }, () => ({}));
    const many = Buffer.from(
      encodeProtobuf('logs', { resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] }).bytes,
    );
    const check = new LiveCheck(1);
    let turns = 0;
    const count = () => {
      turns++;
      if (check.report().batches.checked === 0) setImmediate(count);
    };
    setImmediate(count);
    check.offer(batch(many, { items: records.length }));
    await settled(check, 1);
    expect(check.report().checked).toEqual({ logs: records.length });
    expect(turns).toBeGreaterThan(100);
  });
});
