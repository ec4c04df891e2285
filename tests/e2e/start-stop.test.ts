/** What a process says when it starts and stops, and what it leaves behind. */
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  freePort,
  generate,
  type Process,
  startMockUpstream,
  startNrdot,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startOne, writeConfig } from '../kit.ts';

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

/** The redis-server of a `nrdot up`. */
function redisOf(up: Process): number {
  return Number(execFileSync('pgrep', ['-P', String(up.pid), 'redis-server'], { encoding: 'utf8' }));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('a pipeline whose Redis cannot be reached', () => {
  it('reports what it waits for, and makes no claim when it stops: exit code 1', async () => {
    const port = await freePort();
    const config = writeConfig(dir.path, {
      redis: { url: `redis://127.0.0.1:${port}` },
      // Nothing is in flight, so nothing is waited for.
      admin: { shutdown_timeout: '10m' },
    });
    await using up = startNrdot(['up', '--config', config, '--upstream', mock.url], {}, dir.path);
    await up.line(
      /waiting for +Redis at redis:\/\/127\.0\.0\.1:\d+: connection refused by 127\.0\.0\.1:\d+; new data goes to disk/,
    );
    expect(await up.end('SIGTERM')).toBe(1);
    expect(up.output()).toMatch(/Stopped\. Redis could not be reached, so its contents are unknown/);
    expect(up.output()).not.toMatch(/nothing is lost|exporting|scheduling/i);
  });

  it.each(['receiver', 'scheduler', 'exporter', 'dlq'])(
    'does not keep its %s from stopping',
    async (service) => {
      const config = writeConfig(dir.path, {
        redis: { url: `redis://127.0.0.1:${await freePort()}` },
        admin: { shutdown_timeout: '10m' },
      });
      const upstream = service === 'exporter' ? ['--upstream', mock.url] : [];
      await using started = startNrdot([service, '--config', config, ...upstream], {}, dir.path);
      await started.line(/waiting: Redis at/);
      expect(await started.end('SIGTERM')).toBe(1);
      expect(started.output()).toMatch(/stopped, but Redis was never reached/);
    },
  );
});

describe('stopping', () => {
  it('reports what waits for the next start, by the accounting', async () => {
    mock.set({ outage: true });
    const running = await startOne(dir.path, mock, { breaker: { open_min: '60s', open_max: '60s' } });
    const { up } = running.processes;
    const { acknowledgedItems } = await generate({ endpoint: running.otlp, items: 400, batchSize: 20 });
    expect(await up!.end('SIGTERM')).toBe(0);
    const said = /^Stopped\. (.*) waits? for the next start\.$/m.exec(up!.output())?.[1] ?? up!.output();
    const items = [...said.matchAll(/(\d+) items?/g)].reduce((sum, [, n]) => sum + Number(n), 0);
    expect(items, said).toBe(acknowledgedItems);
  });

  it('twice leaves nothing behind, its redis-server included', async () => {
    mock.set({ latencyMs: 60_000 });
    const running = await startOne(dir.path, mock, {
      admin: { shutdown_timeout: '60s' },
      exporter: { timeout: '60s' },
    });
    const { up } = running.processes;
    const redis = redisOf(up!);
    await generate({ endpoint: running.otlp, items: 10, batchSize: 10 });
    await waitUntil(() => mock.stats().requests > 0 || mock.stats().maxConcurrency > 0, {
      what: 'a request is in flight',
    });
    up!.signal('SIGINT');
    await up!.line(/SIGINT: draining for at most 60 s/);
    expect(await up!.end('SIGINT')).toBe(130);
    await waitUntil(() => !isAlive(redis), { what: 'the redis-server has ended' });
  });

  it('stops even while its redis-server hangs, and stops that too', async () => {
    const running = await startOne(dir.path, mock, { admin: { shutdown_timeout: '1s' } });
    const { up } = running.processes;
    const redis = redisOf(up!);
    process.kill(redis, 'SIGSTOP');
    await up!.end('SIGTERM');
    expect(isAlive(redis)).toBe(false);
    expect(up!.output()).toMatch(/Stopped.*Redis could not be reached, so its contents are unknown/);
  });
});

/** Whether root can be had here that may not do whatever it likes with the files of others. */
function canBeBound(): boolean {
  try {
    execFileSync('setpriv', [...BOUND, 'true'], { stdio: 'pipe' });
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
}
const BOUND = ['--bounding-set=-dac_override,-dac_read_search'];
const OTHER = 4711;

describe.skipIf(!canBeBound())('a disk that belongs to another user', () => {
  const NRDOT = new URL('../../cli/bin/nrdot.js', import.meta.url).pathname;
  const said = (config: string): string => {
    try {
      return execFileSync('setpriv', [...BOUND, process.execPath, NRDOT, 'dlq', '--config', config], {
        encoding: 'utf8',
        stdio: 'pipe',
        timeout: 60_000,
      });
    } catch (error) {
      return String((error as { stderr?: string }).stderr);
    }
  };
  const config = (at: string) =>
    writeConfig(dir.path, { redis: { url: 'redis://127.0.0.1:1' }, dlq: { dir: at, listen: '127.0.0.1:0' } });

  it('is reported with its owner and the remedy', () => {
    const at = join(dir.path, 'volume');
    mkdirSync(at, { mode: 0o755 });
    chownSync(at, OTHER, OTHER);
    const whose = `it belongs to uid ${OTHER} and gid ${OTHER}, mode 755; this process has uid 0 and gid 0. Change its owner to this user ("chown -R 0"), or on Kubernetes its group to one of the pod (fsGroup)`;
    expect(said(config(at))).toContain(`dlq.dir: ${at} cannot be written: no permission for ${at}: ${whose}`);
    expect(said(config(join(at, 'dlq')))).toContain(
      `dlq.dir: ${at}/dlq cannot be created: no permission for ${at}: ${whose}`,
    );
  });

  it('is reported the same way if only its contents belong to another user', () => {
    const at = join(dir.path, 'volume');
    mkdirSync(join(at, 'critical'), { recursive: true, mode: 0o700 });
    chownSync(join(at, 'critical'), OTHER, OTHER);
    expect(said(config(at))).toContain(
      `dlq.dir: no permission for ${at}/critical: it belongs to uid ${OTHER} and gid ${OTHER}, mode 700; this process has uid 0`,
    );
  });
});
