/** `nrdot status`, `top` and `tap` on a real pipeline: healthy, in an outage, without Redis; and one that cannot start. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { PipelineStatus } from '@nrdot/status';
import {
  generate,
  type MockUpstream,
  startMockUpstream,
  startNrdot,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Running, startOne, untilQuiet, writeConfig } from '../kit.ts';

const NRDOT = new URL('../../cli/bin/nrdot.js', import.meta.url).pathname;

let dir: ReturnType<typeof temporaryDirectory>;
let mock: MockUpstream;
let running: Running;

/** Runs a command to its end; what it says on both streams, and its exit code. */
async function nrdot(...args: string[]): Promise<{ code: number | string; output: string }> {
  await using child = startNrdot(args, { NO_COLOR: '1' }, dir.path);
  const code = await new Promise<number | string>((resolve) =>
    child.child.once('close', (status, signal) => resolve(status ?? signal ?? 0)),
  );
  return { code, output: child.output(1_000) };
}

/** A command on a terminal of its own, which types what is written to it. */
function onTerminal(command: string, file: string) {
  return spawn('script', ['-qfc', `stty rows 40 cols 100; ${command}`, file], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { ...process.env, TERM: 'xterm-256color' },
  });
}

function screenOf(file: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal's escape sequences begin with one
  return readFileSync(file, 'latin1').replace(/\u001b\[[?0-9;]*[A-Za-z]/g, '');
}

/** A span with secrets in every place that a sender may put them. */
const SECRETIVE = {
  resourceSpans: [
    {
      resource: {
        attributes: [
          { key: 'service.name', value: { stringValue: 'checkout' } },
          { key: 'nrdot.priority', value: { stringValue: 'critical' } },
          { key: 'db.password', value: { stringValue: 'swordfish-1' } },
        ],
      },
      scopeSpans: [
        {
          spans: [
            {
              traceId: '0123456789abcdef0123456789abcdef',
              spanId: '0123456789abcdef',
              name: 'GET /pay?token=swordfish-2',
              kind: 2,
              startTimeUnixNano: '1000000000',
              endTimeUnixNano: '1012500000',
              status: { code: 2, message: 'refused: Bearer swordfish-3' },
              attributes: [
                { key: 'http.request.header.authorization', value: { stringValue: 'swordfish-4' } },
                { key: 'url.full', value: { stringValue: 'https://ann:swordfish-5@example.com/' } },
                {
                  key: 'nested',
                  value: {
                    kvlistValue: { values: [{ key: 'apiKey', value: { stringValue: 'swordfish-6' } }] },
                  },
                },
                { key: 'note', value: { stringValue: 'swordfish9swordfish9swordfish9' } },
                { key: 'http.route', value: { stringValue: '/pay' } },
                { key: 'escape', value: { stringValue: '\u001b[2J\u009b2J' } },
              ],
            },
          ],
        },
      ],
    },
  ],
};

async function sendSecretive(): Promise<void> {
  const answer = await fetch(`${running.otlp}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(SECRETIVE),
  });
  expect(answer.status).toBe(200);
}

/** Sends until somebody has seen enough. */
async function whileSending<T>(work: Promise<T>): Promise<T> {
  const enough = new AbortController();
  const load = generate(
    {
      endpoint: running.otlp,
      rate: 400,
      batchSize: 10,
      signals: { traces: 1, metrics: 1, logs: 1 },
      classes: { critical: 1, high: 1, normal: 1 },
    },
    { finish: enough.signal },
  );
  try {
    return await work;
  } finally {
    enough.abort();
    await load;
  }
}

describe('a running pipeline', () => {
  beforeAll(async () => {
    dir = temporaryDirectory();
    mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    running = await startOne(dir.path, mock);
  });
  afterAll(async () => {
    await running[Symbol.asyncDispose]();
    await mock.close();
    dir[Symbol.dispose]();
  });

  it('is healthy: one screen, exit code 0, and the same as JSON', async () => {
    await sendSecretive();
    await untilQuiet(running.admin);
    const { code, output } = await nrdot('status', '--admin', running.admin);
    expect(code, output).toBe(0);
    expect(output).toContain('ok         Everything flows; nothing waits for an upstream or a disk.');
    expect(output).toMatch(/^books +accepted 1 = delivered 1 \+ in Redis 0 \+ on disk 0/m);
    expect(output).toMatch(
      /^lost +Nothing: every accepted item is delivered, or kept in Redis or on disk\.$/m,
    );
    expect(output).toMatch(/^ +difference 0$/m);
    expect(output).toMatch(/^ +normal +0 +0 +0 +- +\d+\/s +- *$/m); // a weight that does not bind
    for (const service of ['receiver', 'scheduler', 'exporter', 'dlq'])
      expect(output).toMatch(new RegExp(`^ +${service} +ready +\\d+ s +\\d+ s`, 'm'));
    const lines = output.split('\n');
    expect(lines.length).toBeLessThanOrEqual(30);
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(120);
    const json = JSON.parse(
      (await nrdot('status', '--json', '--admin', running.admin)).output,
    ) as PipelineStatus;
    expect(json.books).toMatchObject({ accepted: 1, delivered: 1, difference: 0 });
  });

  it('is shown by top: plain lines in a pipe, in place on a terminal that is restored', async () => {
    const { code, output } = await nrdot(
      ...['top', '--every', '200ms', '--count', '3', '--admin', running.admin],
    );
    expect(code, output).toBe(0);
    expect(output.match(/^\S+Z {2}ok {2}received .* difference 0 {2}Everything flows/gm)).toHaveLength(3);

    const file = join(dir.path, 'typescript');
    const terminal = onTerminal(
      `${process.execPath} ${NRDOT} top --every 200ms --admin ${running.admin}; stty -a`,
      file,
    );
    const drawn = () => (existsSync(file) ? (screenOf(file).match(/Everything flows/g)?.length ?? 0) : 0);
    try {
      await waitUntil(() => drawn() >= 2, { what: 'top has drawn twice' });
      terminal.stdin.write('q');
      await waitUntil(() => terminal.exitCode !== null, { what: 'top has ended at q' });
    } finally {
      terminal.kill('SIGKILL');
    }
    const raw = readFileSync(file, 'latin1');
    expect(raw).toContain('\u001b[?1049h');
    expect(raw.indexOf('\u001b[?25h\u001b[?1049l')).toBeGreaterThan(raw.lastIndexOf('Everything flows'));
    // The terminal waits for whole lines again, and shows what is typed.
    expect(raw.slice(raw.indexOf('\u001b[?1049l'))).toMatch(/ icanon .* echo /s);
  });

  it('is tapped: decoded, redacted, by class, signal and service, within its limits', async () => {
    const tapped = nrdot(
      ...['tap', '--service', 'checkout', '--class', 'critical', '--signal', 'traces'],
      ...['--limit', '1', '--seconds', '60', '--admin', running.admin],
    );
    const sender = setInterval(() => void sendSecretive().catch(() => {}), 100);
    const { code, output } = await tapped.finally(() => clearInterval(sender));
    expect(code, output).toBe(0);
    expect(output).toMatch(
      /traces {3}critical {2}checkout {2}GET \/pay\?token=\[redacted\] {2}server {2}12\.5 ms {2}status error/,
    );
    expect(output).toContain('trace 0123456789abcdef0123456789abcdef');
    expect(output).toContain('http.route=/pay');
    expect(output).toContain('db.password=[redacted]');
    expect(output).toContain('url.full=https://[redacted]@example.com/');
    expect(output).not.toContain('swordfish');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what a sender may not put on a terminal
    expect(output).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect(output).toMatch(/1 items shown, .*the limit was reached/);

    const logs = await whileSending(
      nrdot('tap', '--signal', 'logs', '--class', 'high', '--limit', '7', '--json', '--admin', running.admin),
    );
    const items = logs.output
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { signal: string; class: string });
    expect(items, logs.output).toHaveLength(7);
    for (const item of items) expect(item).toMatchObject({ signal: 'logs', class: 'high' });
  });

  it('refuses a tap beyond its limits, and a fifth one; a reader that leaves makes room', async () => {
    const ask = (query: string, signal?: AbortSignal) =>
      fetch(`${running.admin}/api/tap?${query}`, signal ? { signal } : {});
    for (const [query, said] of [
      ['limit=1001', 'limit: "1001"'],
      ['seconds=0', 'seconds: "0"'],
      ['signal=profiles', 'signal: "profiles"'],
      ['class=low', 'class: "low"'],
      ['sercice=x', 'unknown parameter "sercice"'],
    ] as const) {
      const answer = await ask(query);
      expect(answer.status).toBe(400);
      expect(await answer.text()).toContain(said.replaceAll('"', '\\"'));
    }
    const left = new AbortController();
    const open = Array.from({ length: 4 }, () =>
      ask('seconds=300&service=nobody', left.signal).catch(() => {}),
    );
    await waitUntil(async () => (await ask('seconds=1&service=nobody')).status === 429, {
      what: 'four taps are open',
    });
    left.abort();
    await Promise.all(open);
    await waitUntil(async () => (await ask('seconds=1&limit=1&service=nobody')).status === 200, {
      what: 'a reader that has left makes room',
    });
  });

  it('reports that nothing arrived, and what to try', async () => {
    const { output } = await nrdot('tap', '--seconds', '1', '--service', 'nobody', '--admin', running.admin);
    expect(output).toMatch(/Nothing to show for nobody; the time is up\. No data arrived/);
  });

  it('reports an outage and its end', async () => {
    mock.set({ outage: true });
    const status = await whileSending(
      waitUntil(
        async () => {
          const seen = await nrdot('status', '--admin', running.admin);
          return /items are on disk/.test(seen.output) && /breaker +(half-)?open/.test(seen.output)
            ? seen
            : undefined;
        },
        { what: 'the status reports the outage' },
      ),
    );
    expect(status.code, status.output).toBe(3);
    expect(status.output).toMatch(
      /^WARNING +Delivery (is paused|has been paused for \d+ s): the upstream fails — connection/m,
    );
    expect(status.output).toMatch(/^data .*New data goes to disk\./m);
    expect(status.output).toMatch(
      /is\s+replayed\s+automatically\s+once\s+the\s+upstream\s+answers;\s+this\s+takes\s+about\s+[1-9]/,
    );
    expect(status.output).toMatch(/^lost +(Nothing: every accepted item|No known loss\. )/m);
    mock.set({ outage: false });
    await untilQuiet(running.admin);
    await waitUntil(async () => (await nrdot('status', '--admin', running.admin)).code === 0, {
      what: 'the pipeline is healthy again',
    });
  });

  it('reports that Redis is away, with exit code 4', async () => {
    const pid = Number(
      execFileSync('pgrep', ['-P', String(running.processes.up!.pid), 'redis-server'], { encoding: 'utf8' }),
    );
    process.kill(pid, 'SIGSTOP');
    try {
      const status = await waitUntil(
        async () => {
          const seen = await nrdot('status', '--admin', running.admin);
          return seen.code === 4 ? seen : undefined;
        },
        { what: 'the status reports that Redis is down' },
      );
      expect(status.output).toMatch(/^FAULT +Redis cannot be used/m);
      expect(status.output).toMatch(
        /→ It is the redis-server of "nrdot up", which restarts it with its AOF when it exits/,
      );
      expect(status.output).toMatch(/^books +unknown without Redis/m);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await waitUntil(async () => (await nrdot('status', '--admin', running.admin)).code === 0, {
      what: 'the pipeline is healthy again',
    });
  });
});

describe('a pipeline that is not running', () => {
  beforeEach(() => {
    dir = temporaryDirectory();
  });
  afterEach(() => dir[Symbol.dispose]());

  it('is reported with the next step, exit code 1', async () => {
    const status = await nrdot('status', '--admin', '127.0.0.1:1');
    expect(status.code).toBe(1);
    expect(status.output).toMatch(
      /nothing answers at http:\/\/127\.0\.0\.1:1 .*"nrdot up" starts everything.* receivers still accept data/,
    );
    const top = await nrdot('top', '--count', '2', '--every', '200ms', '--admin', '127.0.0.1:1');
    expect(top.output.match(/nothing answers/g)).toHaveLength(2);
  });

  it.each(['receiver', 'dlq', 'admin'])(
    'because the address of its %s is in use: reports it and exits',
    async (name) => {
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      const { port } = taken.address() as { port: number };
      try {
        const config = writeConfig(dir.path, { [name]: { listen: `127.0.0.1:${port}` } });
        const up = await nrdot('up', '--config', config, '--upstream', 'http://127.0.0.1:9');
        expect(up.code, up.output).toBe(1);
        expect(up.output).toContain(`${name}.listen: 127.0.0.1:${port}: another process listens there`);
      } finally {
        taken.close();
      }
    },
  );
});
