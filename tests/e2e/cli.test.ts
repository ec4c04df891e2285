/** What commands say and how they end when something is wrong. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, startMockUpstream, startNrdot, temporaryDirectory } from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startOne, writeConfig } from '../kit.ts';

let dir: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => dir[Symbol.dispose]());

async function nrdot(...args: string[]): Promise<{ code: number | string; output: string }> {
  await using child = startNrdot(args, { NO_COLOR: '1' }, dir.path);
  const code = await new Promise<number | string>((resolve) =>
    child.child.once('close', (status, signal) => resolve(status ?? signal ?? 0)),
  );
  return { code, output: child.output(1_000) };
}

describe('a load to an address where nothing listens', () => {
  it('ends in a few seconds with the reason', async () => {
    const port = await freePort();
    const { code, output } = await nrdot(
      'generate',
      '--endpoint',
      `http://127.0.0.1:${port}`,
      '--duration',
      '2s',
    );
    expect(code).toBe(1);
    expect(output).toContain(
      `nothing answers at http://127.0.0.1:${port} (connection refused by 127.0.0.1:${port}). Is it running?`,
    );
  });
});

describe('errors with --json', () => {
  it.each<[string[], number, object]>([
    [['status', '--json', '--admin', '127.0.0.1:1'], 1, { code: 'failed' }],
    [['status', '--json', '--nonsense'], 1, { code: 'bad_command', message: "unknown option '--nonsense'" }],
    [['validate', 'bad.yaml', '--json'], 2, { code: 'invalid_config' }],
    [['dlq', 'stats', '--json', '--config', 'bad.yaml'], 2, { code: 'invalid_config' }],
    [['dlq', 'export', '--json', '--config', 'bad.yaml'], 2, { code: 'invalid_config' }],
    [['dlq', 'export', '--json', '--dir', '.'], 1, { code: 'failed' }],
    [['dlq', '--json', '--config', 'bad.yaml'], 2, { code: 'invalid_config' }],
    [['up', '--json', '--config', 'bad.yaml'], 2, { code: 'invalid_config' }],
    [['scheduler', '--json', '--nonsense'], 1, { code: 'bad_command' }],
    [['mock-upstream', '--json', '--redirect', '301'], 1, { code: 'failed' }],
    [['completion', 'tcsh', '--json'], 1, { code: 'bad_command' }],
    [['bench', '--json'], 1, { code: 'failed' }],
    [['bench', '--json', '--', '--dry-run', '--suite', 'nonsense'], 1, { code: 'failed' }],
  ])('%j is JSON too', async (args, expected, error) => {
    writeFileSync(join(dir.path, 'bad.yaml'), 'queue: { spill_at: 7 }\n');
    const { code, output } = await nrdot(...args);
    expect(code).toBe(expected);
    const said = JSON.parse(output) as { error: { problems?: { path: string }[] } };
    expect(said.error).toMatchObject(error);
    if (expected === 2) expect(said.error.problems?.map(({ path }) => path)).toEqual(['queue.spill_at']);
  });

  it('the completion is a script, or JSON with it', async () => {
    const script = `${(await nrdot('completion', 'fish')).output}\n`;
    expect(JSON.parse((await nrdot('completion', 'fish', '--json')).output)).toEqual({
      shell: 'fish',
      script,
    });
  });

  it('the benchmark shows what it would measure', async () => {
    await using child = startNrdot(['bench', '--json', '--', '--dry-run', '--no-peers'], {}, dir.path);
    let out = '';
    child.child.stdout!.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await new Promise((resolve) => child.child.once('close', resolve));
    const { seconds, steps } = JSON.parse(out) as { seconds: number; steps: string[] };
    expect(seconds).toBeGreaterThan(0);
    expect(steps.length).toBeGreaterThan(3);
  });

  it('continuous commands print a JSON object per line: nrdot up, the mock upstream, and an export', async () => {
    const port = await freePort();
    const mock = startNrdot(['mock-upstream', '--json', '--listen', `127.0.0.1:${port}`], {}, dir.path);
    const url = `http://127.0.0.1:${port}`;
    await mock.line(/"stats"/);
    const up = startNrdot(
      ['up', '--json', '--config', writeConfig(dir.path), '--upstream', url],
      {},
      dir.path,
    );
    const [line] = await up.line(/^\{"event":"running".*$/m);
    const running = JSON.parse(line) as { otlp: string; admin: string };
    expect(running).toMatchObject({ upstreams: [url], isMock: false, waitsFor: [] });
    await nrdot('generate', '--endpoint', running.otlp, '--items', '300', '--batch', '50', '--rate', '0');
    await mock.line(/"newItems"/);
    const empty = await nrdot('dlq', 'export', '--json', '--admin', running.admin);
    expect([empty.code, JSON.parse(empty.output)]).toEqual([0, { batches: 0, left: 0, damaged: 0 }]);
    await up.end('SIGTERM');
    const [, stopped] = await up.line(/^(\{"event":"stopped".*)$/m);
    expect(JSON.parse(stopped!)).toMatchObject({
      clean: true,
      unclean: [],
      message: 'Stopped. Nothing was waiting.',
      books: { accepted: 300, delivered: 300 },
    });
    await mock.end('SIGTERM');
    const [, ended] = await mock.line(/^(\{"ended".*)$/m);
    expect(JSON.parse(ended!)).toMatchObject({ ended: true, items: 300, duplicates: 0, corrupted: 0 });
  });

  it('validate reports that all is well', async () => {
    writeFileSync(join(dir.path, 'good.yaml'), 'exporter: { endpoint: "http://up.example" }\n');
    const { code, output } = await nrdot('validate', 'good.yaml', '--json');
    expect(code, output).toBe(0);
    expect(JSON.parse(output)).toEqual({ valid: true, file: 'good.yaml', warnings: [] });
  });

  it('validate warns about valid settings that are usually mistakes', async () => {
    const yaml =
      'exporter: { endpoint: "http://collector:4317" }\nreceiver: { listen: "127.0.0.1:4317" }\ntelemetry: { otlp: { endpoint: "http://collector:4317" } }\n';
    writeFileSync(join(dir.path, 'grpc.yaml'), yaml);
    const { code, output } = await nrdot('validate', 'grpc.yaml');
    expect(code, output).toBe(0);
    expect(output).toMatch(
      /^warning: exporter\.endpoint: port 4317 is that of gRPC; OTLP\/HTTP usually uses 4318/m,
    );
    expect(output).toMatch(/^warning: receiver\.listen: port 4317 is that of gRPC/m);
    expect(output).toMatch(/^warning: telemetry\.otlp\.endpoint: port 4317 is that of gRPC/m);
    expect(JSON.parse((await nrdot('validate', 'grpc.yaml', '--json')).output).warnings).toHaveLength(3);
  });
});

describe('validate', () => {
  it('validate reports everything that would prevent a start at once', async () => {
    const config = {
      admin: { listen: '0.0.0.0:8888' },
      receiver: { max_body: '20MiB', max_inflight: '10MiB', tls: { cert_file: 'c.pem', key_file: 'k.pem' } },
      exporter: { tls: { ca_file: dir.path } },
      dlq: { listen: ':4319', ca_file: '/nowhere/ca.pem' },
    };
    writeFileSync(join(dir.path, 'bad.yaml'), JSON.stringify(config));
    const { code, output } = await nrdot('validate', 'bad.yaml');
    expect(code).toBe(2);
    for (const said of [
      /admin\.listen.*expected an address that only this machine can reach.*admin\.token/,
      /dlq\.listen.*expected an address that only this machine can reach.*dlq\.token/,
      /receiver\.max_inflight.*expected at least receiver\.max_body/,
      /receiver\.tls\.cert_file.*expected a readable file; c\.pem: it does not exist/,
      /receiver\.tls\.key_file.*k\.pem: it does not exist/,
      /exporter\.tls\.ca_file.*: it is not a file/,
      /dlq\.ca_file.*\/nowhere\/ca\.pem: it does not exist/,
      /exporter\.endpoint is not set: .*"nrdot exporter" does not start/,
    ])
      expect(output).toMatch(said);
    expect((await nrdot('validate', 'bad.yaml', '--for', 'exporter')).output).toMatch(
      /exporter\.endpoint.*expected the upstream's base URL/,
    );
  });

  it('validate reports settings that an exporter requires but nrdot up does not', async () => {
    writeFileSync(join(dir.path, 'nrdot.yaml'), 'queue: { spill_at: 0.9, resume_at: 0.8 }\n');
    expect(await nrdot('validate')).toMatchObject({
      code: 0,
      output: expect.stringContaining('exporter.endpoint is not set'),
    });
    expect(await nrdot('validate', '--for', 'receiver')).toMatchObject({
      code: 0,
      output: expect.not.stringContaining('exporter.endpoint'),
    });
    expect((await nrdot('validate', '--for', 'exporter')).code).toBe(2);
    expect((await nrdot('exporter')).code).not.toBe(0);
    writeFileSync(join(dir.path, 'nrdot.yaml'), 'exporter: { endpoint: "http://up.example" }\n');
    expect(await nrdot('validate', '--for', 'exporter')).toMatchObject({
      code: 0,
      output: expect.not.stringContaining('exporter.endpoint'),
    });
  });
});

describe('a data directory that cannot be written', () => {
  it.skipIf(!canMount())('is reported as read-only, with its path', async () => {
    const at = join(dir.path, 'disk');
    mkdirSync(at);
    const config = writeConfig(dir.path, { data_dir: join(at, 'data') });
    const script = `mount -t tmpfs -o ro none '${at}' && exec '${process.execPath}' '${new URL('../../cli/bin/nrdot.js', import.meta.url).pathname}' up --config '${config}' --upstream http://127.0.0.1:9`;
    let said = '';
    try {
      execFileSync('unshare', ['-m', 'sh', '-c', script], { encoding: 'utf8', stdio: 'pipe' });
    } catch (error) {
      said = String((error as { stderr?: string }).stderr);
    }
    expect(said).toContain(`data_dir: ${at}/data/redis cannot be created: ${at} is read-only`);
    expect(said).not.toContain('ENOENT');
  });
});

describe('dlq verify', () => {
  it('counts an open segment as skipped', async () => {
    const mock = await startMockUpstream({ listen: '127.0.0.1:0', behaviour: { outage: true } });
    await using running = await startOne(dir.path, mock, { breaker: { open_min: '60s', open_max: '60s' } });
    const load = await nrdot('generate', '--endpoint', running.otlp, '--items', '200', '--rate', '0');
    expect(load.code, load.output).toBe(0);
    const { code, output } = await nrdot('dlq', 'verify', '--admin', running.admin);
    expect(code, output).toBe(0);
    expect(output).toMatch(/^0 segments checked, \d+ skipped \(open: still being written\)\.$/m);
    await mock.close();
  });
});

describe('the benchmark', () => {
  it('does not start half an hour of full load without confirmation', async () => {
    const { code, output } = await nrdot('bench');
    expect(code).toBe(1);
    expect(output).toMatch(/over half an hour of full load.*"nrdot bench --yes" starts it/);
  });
});

function canMount(): boolean {
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
