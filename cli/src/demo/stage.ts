import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Accounting } from '@nrdot/queue';
import type { SchedulerState } from '@nrdot/status';
import { freePort, type MockUpstream, Process, startMockUpstream, waitUntil } from '@nrdot/testbed';
import { whole } from './finding.ts';

/** After so long without a change, with items left, a pipeline is stuck rather than slow. */
const STUCK_MS = 15_000;
const POLL_MS = 100;
const START_MS = 60_000;

type Tree = { [key: string]: unknown };

/**
 * The environment of an act: the whole pipeline as a process of its own, so that it can be killed, and a mock upstream in this
 * one. It has a directory of its own and free ports.
 */
export class Stage implements AsyncDisposable {
  readonly mock: MockUpstream;
  readonly otlp: string;
  readonly admin: string;
  readonly #dir: string;
  readonly #configFile: string;
  #pipeline: Process;

  private constructor(mock: MockUpstream, dir: string, configFile: string, ports: [number, number]) {
    this.mock = mock;
    this.#dir = dir;
    this.#configFile = configFile;
    [this.otlp, this.admin] = ports.map((port) => `http://127.0.0.1:${port}`) as [string, string];
    this.#pipeline = this.#spawn();
  }

  /**
   * @param dir of this stage only; removed at the end
   * @param settings layers of configuration; later ones take precedence
   */
  static async open(dir: string, settings: readonly Tree[]): Promise<Stage> {
    mkdirSync(dir, { recursive: true });
    const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    const ports: [number, number] = [await freePort(), await freePort()];
    const own: Tree = {
      data_dir: join(dir, 'data'),
      receiver: { listen: `127.0.0.1:${ports[0]}` },
      admin: { listen: `127.0.0.1:${ports[1]}` },
      // What it holds is small, and so may the disk of its temporary directory be.
      dlq: { listen: '127.0.0.1:0', reserve: '64MiB' },
      exporter: { endpoint: mock.url, proxy: 'none' },
    };
    const configFile = join(dir, 'nrdot.yaml');
    writeFileSync(configFile, JSON.stringify([...settings, own].reduce(merge, {}), null, 2)); // JSON is YAML
    const stage = new Stage(mock, dir, configFile, ports);
    try {
      await stage.#started();
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
    return stage;
  }

  /** Kills the whole pipeline (kill -9) and starts it again on the same files. */
  async killAndRestart(): Promise<void> {
    await this.#pipeline.end('SIGKILL');
    this.#pipeline = this.#spawn();
    await this.#started();
  }

  /** @throws while the pipeline is down */
  async scheduler(): Promise<SchedulerState> {
    return (await (await fetch(`${this.admin}/api/scheduler`)).json()) as SchedulerState;
  }

  /** Sends a POST to the admin address. */
  async post(path: string): Promise<void> {
    const answer = await fetch(this.admin + path, { method: 'POST' });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
  }

  /** Sums of metrics over their labels. @throws while the pipeline is down */
  async metrics<N extends string>(...names: N[]): Promise<Record<N, number>> {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    const sums = Object.fromEntries(names.map((name) => [name, 0])) as Record<N, number>;
    for (const [, name = '', value] of text.matchAll(/^(\w+)(?:\{[^}]*\})? (\S+)$/gm))
      if (name in sums) sums[name as N] += Number(value);
    return sums;
  }

  /** The dlq's time in Unix ms, and the payload bytes that it has replayed since its start. */
  async replayed(): Promise<{ at: number; bytes: number }> {
    const answer = await fetch(`${this.admin}/api/dlq`);
    const { at, replay } = (await answer.json()) as { at: number; replay: { replayedBytes: number } };
    return { at, bytes: replay.replayedBytes };
  }

  /**
   * Waits until nothing is in flight, nothing changes any more, or the time is over.
   * @returns doubt: why missing items may yet arrive; empty if they will not
   */
  async untilQuiet(timeoutMs: number): Promise<{ books: Accounting; doubt: string }> {
    const endsAt = performance.now() + timeoutMs;
    let books: Accounting | undefined;
    let movedAt = performance.now();
    let lastError = '';
    while (performance.now() < endsAt) {
      try {
        const now = (await this.scheduler()).accounting;
        if (now.queued === 0 && now.on_disk === 0 && now.difference === 0) return { books: now, doubt: '' };
        if (JSON.stringify(now) !== JSON.stringify(books)) movedAt = performance.now();
        books = now;
        if (performance.now() - movedAt > STUCK_MS) return { books, doubt: '' };
      } catch (error) {
        lastError = (error as Error).message;
      }
      await wait(POLL_MS);
    }
    if (!books) throw new Error(`the pipeline reported nothing for ${timeoutMs / 1000} s: ${lastError}`);
    const { queued, on_disk: onDisk } = books;
    const left = `${whole(queued)} in Redis and ${whole(onDisk)} on disk`;
    return { books, doubt: `it was still delivering after ${timeoutMs / 1000} s, with ${left}` };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A graceful stop, so that its redis-server ends too.
    await this.#pipeline.end('SIGTERM').catch(() => {});
    await this.mock.close();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 3 });
  }

  #spawn(): Process {
    const args = [process.argv[1]!, 'up', '--config', this.#configFile];
    return new Process('nrdot up', process.execPath, args, {}, this.#dir);
  }

  async #started(): Promise<void> {
    await this.#pipeline.line(/send OTLP\/HTTP to/, START_MS);
    await waitUntil(async () => (await fetch(`${this.admin}/readyz`)).ok, {
      what: 'the pipeline is ready',
      timeoutMs: START_MS,
    });
  }
}

function merge(below: Tree, above: Tree): Tree {
  const merged = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const [a, b] = [merged[key], value];
    merged[key] = isTree(a) && isTree(b) ? merge(a, b) : b;
  }
  return merged;
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
