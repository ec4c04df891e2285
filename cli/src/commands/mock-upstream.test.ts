import { startMockUpstream } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../main.ts';
import { behaviourOf, type MockFlags } from './mock-upstream.ts';

/** What the command line gives the command. */
async function flagsOf(...args: string[]): Promise<MockFlags> {
  let given: MockFlags | undefined;
  const program = createProgram();
  const mock = program.commands.find((command) => command.name() === 'mock-upstream')!;
  mock.action((flags: MockFlags) => {
    given = flags;
  });
  mock.exitOverride().configureOutput({ writeErr: () => {} });
  await program.parseAsync(['node', 'nrdot', 'mock-upstream', ...args]);
  return given!;
}

async function answers(...args: string[]): Promise<(signal: string, body?: string) => Promise<Response>> {
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: behaviourOf(await flagsOf(...args)),
  });
  return (signal, body = '{}') =>
    fetch(`${mock.url}/v1/${signal}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body,
      redirect: 'manual',
    }).finally(() => mock.close());
}

describe('the flags of nrdot mock-upstream', () => {
  it.each([
    [[], 'logs', 200],
    [['--status', '404'], 'logs', 404],
    [['--signal-status', 'logs=403', '--signal-status', 'traces=503'], 'logs', 403],
    [['--signal-status', 'logs=403', '--signal-status', 'traces=503'], 'traces', 503],
    [['--signal-status', 'logs=403', '--signal-status', 'traces=503'], 'metrics', 200],
  ])('%j: %s get %i', async (args, signal, status) => {
    expect((await (await answers(...args))(signal)).status).toBe(status);
  });

  it('turn it into an HTML page, a redirect, and an upstream that fails for one batch', async () => {
    const page = await (await answers('--html'))('logs');
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html']);
    const moved = await (await answers('--redirect', '308', '--redirect-to', 'https://up.example/'))('logs');
    expect([moved.status, moved.headers.get('location')]).toEqual([308, 'https://up.example/v1/logs']);
    const poison = ['--poison', 'user 4711', '--poison-status', '503'];
    const logs = (text: string) =>
      JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: text } }] }] }] });
    expect((await (await answers(...poison))('logs', logs('of user 4711'))).status).toBe(503);
    expect((await (await answers(...poison))('logs', logs('of another'))).status).toBe(200);
    expect(behaviourOf(await flagsOf('--poison', 'x'))).not.toHaveProperty('poisonStatus');
    expect(behaviourOf(await flagsOf('--signal-latency', 'logs=2s'))).toMatchObject({
      signalLatencyMs: { logs: 2_000 },
    });
  });

  it.each([
    [['--status', '99'], /expected a status from 200 to 599/],
    [['--signal-status', 'logs'], /--signal-status logs: expected one of .*logs.*, "=" and a status/],
    [['--signal-status', 'spans=403'], /--signal-status spans=403: expected one of traces, metrics, logs/],
    [['--signal-latency', 'logs=soon'], /--signal-latency logs=soon: .* a duration such as 50ms/],
    [['--redirect', '301'], /--redirect and --redirect-to require each other/],
    [['--redirect', '301', '--redirect-to', 'up.example'], /expected an http or https URL/],
  ])('%j is refused with the expectation', async (args, expected) => {
    await expect(flagsOf(...args).then(behaviourOf)).rejects.toThrow(expected);
  });
});
