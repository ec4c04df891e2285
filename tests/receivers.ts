/** Receivers of one pipeline that come and go, each at an address of its own that stays. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, type Process, startNrdot, waitUntil } from '@nrdot/testbed';
import { type Sample, scrape, writeConfig } from './kit.ts';

export class Receivers {
  readonly origins: string[] = [];
  readonly admins: string[] = [];
  readonly #dir: string;
  readonly #processes: Process[] = [];
  #config: Record<string, unknown>;

  private constructor(dir: string, config: Record<string, unknown>) {
    this.#dir = dir;
    this.#config = config;
  }

  static async start(dir: string, config: Record<string, unknown>, count: number): Promise<Receivers> {
    const receivers = new Receivers(dir, config);
    for (let at = 0; at < count; at += 1) {
      receivers.origins.push(`http://127.0.0.1:${await freePort()}`);
      receivers.admins.push(`http://127.0.0.1:${await freePort()}`);
    }
    await Promise.all(receivers.origins.map((_, at) => receivers.begin(at)));
    return receivers;
  }

  async end(at: number, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#processes[at]!.end(signal);
  }

  /** Starts one, with these options changed for it and all that are started later. */
  async begin(at: number, changed: Record<string, unknown> = {}): Promise<void> {
    this.#config = { ...this.#config, ...changed };
    const own = join(this.#dir, `receiver${at + 1}`);
    mkdirSync(own, { recursive: true });
    const listen = (origin: string) => new URL(origin).host;
    const file = writeConfig(own, {
      ...this.#config,
      receiver: { listen: listen(this.origins[at]!) },
      admin: { listen: listen(this.admins[at]!), shutdown_timeout: '5s' },
    });
    const process = startNrdot(['receiver', '--config', file], {}, own);
    this.#processes[at] = process;
    await waitUntil(
      async () => {
        if (!process.running) throw new Error(process.output(10));
        return (await fetch(`${this.admins[at]}/readyz`)).ok;
      },
      { what: `receiver ${at + 1} is ready` },
    );
  }

  /** One after the other, as a rolling upgrade does. */
  async restartAll(changed: Record<string, unknown> = {}, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    for (let at = 0; at < this.origins.length; at += 1) {
      await this.end(at, signal);
      await this.begin(at, changed);
    }
  }

  /** Of all together; a metric that is not there is 0. */
  async metric(name: string, labels: Record<string, string> = {}): Promise<number> {
    const pages = await Promise.all(this.admins.map(scrape));
    const matches = (sample: Sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    return pages
      .flat()
      .filter(matches)
      .reduce((sum, { value }) => sum + value, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((process) => process[Symbol.asyncDispose]()));
  }
}
