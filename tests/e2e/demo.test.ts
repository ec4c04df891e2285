/** The demo as a newcomer runs it, and as somebody who wants to see it fail. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startMockUpstream, startNrdot, temporaryDirectory } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startOne } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => dir[Symbol.dispose]());

/** Runs a command to its end. */
async function nrdot(args: string[]): Promise<{ status: number | string; output: string }> {
  await using child = startNrdot(args, {}, dir.path);
  const status = await new Promise<number | string>((resolve) =>
    child.child.once('close', (code, signal) => resolve(code ?? signal ?? 0)),
  );
  return { status, output: child.output(1_000) };
}

describe('nrdot demo', () => {
  it('shows that every promise holds, and writes a page', async () => {
    const { status, output } = await nrdot(['demo', '--report', 'page.html']);
    expect(output, output).not.toContain('BROKEN');
    expect(output, output).toMatch(/held +Nothing acknowledged is lost, invented or damaged/);
    const [, held, promises, rest] = /(\d+) of (\d+) promises held(.*)\.$/m.exec(output) ?? [];
    // Slowness of the machine is no fault of the product: it is told apart, with its reason and its exit code.
    const unmeasured = output.match(/^ *unmeasured .*could not be measured here: .+/gm) ?? [];
    expect(Number(held) + unmeasured.length, output).toBe(Number(promises));
    expect(rest, output).toBe(
      unmeasured.length > 0 ? `, ${unmeasured.length} could not be measured here` : '',
    );
    expect(status, output).toBe(unmeasured.length > 0 ? 3 : 0);
    const page = readFileSync(join(dir.path, 'page.html'), 'utf8');
    expect(page).toContain(`${held} of ${promises} promises held`);
    expect(page.match(/<svg/g)!.length).toBeGreaterThanOrEqual(5);
    expect(page).not.toMatch(/NaN|undefined/);
  });

  it('reports a broken promise', async () => {
    writeFileSync(
      join(dir.path, 'broken.yaml'),
      'scheduler:\n  weights: { critical: 1, high: 1, normal: 1 }\n',
    );
    const { status, output } = await nrdot(['demo', '--act', 'overload', '--config', 'broken.yaml']);
    expect(output, output).toMatch(/BROKEN +Shares of critical, high and normal are 5 : 3 : 1/);
    expect(output, output).toMatch(/\d of 3 promises held, 1 BROKEN/);
    expect(status, output).toBe(1);
  });

  it('stops immediately when interrupted, and leaves nothing running', async () => {
    await using child = startNrdot(['demo', '--act', 'outage'], {}, dir.path);
    await child.line(/breaker closed; delivered [1-9]/, 60_000);
    expect(await child.end('SIGINT')).toBe(130);
    expect(child.output()).toContain('Stopped.');
  });
});

describe('commands for a running pipeline', () => {
  it('show the limiter, and take the upstream down and up', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    try {
      await using running = await startOne(dir.path, mock);
      const sent = await nrdot([
        ...['generate', '--endpoint', running.otlp, '--signals', 'metrics', '--cardinality', '2000'],
        ...['--items', '4000', '--rate', '0'],
      ]);
      expect(sent.status).toBe(0);
      const limiter = await nrdot(['limiter', '--admin', running.admin]);
      expect(limiter.output).toMatch(/^mode {7}enforce$/m);
      expect(limiter.output).toMatch(/^key-sets +2,000 in use, 65,536 for this receiver, 65,536 for all$/m);
      expect(limiter.output).toMatch(/^METRIC +KEY-SETS +STRIPPED$/m);
      const json = await nrdot(['limiter', '--admin', running.admin, '--json']);
      expect(JSON.parse(json.output)).toMatchObject({ keysUsed: 2_000, totals: { points: 4_000 } });

      expect((await nrdot(['outage', 'on', '--mock', mock.url])).output).toContain('is down');
      expect(mock.behaviour().outage).toBe(true);
      expect((await nrdot(['outage', 'status', '--mock', mock.url])).output).toContain('is down');
      expect((await nrdot(['outage', 'off', '--mock', mock.url])).output).toContain('is up');
      expect(mock.behaviour().outage).toBe(false);
    } finally {
      await mock.close();
    }
    const { status, output } = await nrdot(['outage', 'on', '--mock', mock.url]);
    expect(status).toBe(1);
    expect(output).toMatch(/no mock upstream answers at .*pass its address with --mock URL/);
  });
});
