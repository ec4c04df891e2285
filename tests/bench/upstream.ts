/** The upstream of a benchmark as a process of its own, and the load likewise. */
import { fileURLToPath } from 'node:url';
import { Process, type Workload } from '@nrdot/testbed';
import type { LoadReport } from './load.ts';
import type { Arrivals } from './sink.ts';

const LOAD_TIMEOUT_MS = 600_000;

export class Sink {
  readonly process: Process;
  url = '';

  constructor() {
    this.process = new Process('sink', process.execPath, [
      fileURLToPath(new URL('sink.ts', import.meta.url)),
    ]);
  }

  async start(): Promise<this> {
    [, this.url = ''] = await this.process.line(/sink on (\S+)/);
    return this;
  }

  /** Forgets what it saw, and looks for the items of one run from now on. */
  async expect(what: { run: number; batchSize: number; batches: number; delayMs: number }): Promise<void> {
    await this.#ask('expect', what);
  }

  async count(run: number): Promise<number> {
    return Number(await this.#ask('count', { run }));
  }

  async arrivals(run: number): Promise<Arrivals> {
    return JSON.parse(await this.#ask('arrivals', { run })) as Arrivals;
  }

  async #ask(what: string, query: Record<string, number>): Promise<string> {
    const text = new URLSearchParams(Object.entries(query).map(([k, v]): [string, string] => [k, String(v)]));
    const answer = await fetch(`${this.url}/_bench/${what}?${text}`);
    if (!answer.ok) throw new Error(`sink: ${what} answered ${answer.status}: ${this.process.output(3)}`);
    return answer.text();
  }
}

/** Sends a load from a process of its own, to its end; it is gone when this gives up. */
export async function send(workload: Partial<Workload> & { endpoint: string }): Promise<LoadReport> {
  await using load = new Process('load', process.execPath, [
    fileURLToPath(new URL('load.ts', import.meta.url)),
    JSON.stringify(workload),
  ]);
  const [line] = await load.line(/^\{.*\}$/, LOAD_TIMEOUT_MS);
  return JSON.parse(line) as LoadReport;
}
