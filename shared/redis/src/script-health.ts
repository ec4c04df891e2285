/** A script may fail once, for example while somebody edits keys by hand. After so long it counts as not working. */
const FAILING_MS = 10_000;
/** A failure is forgotten if the script has not run for so long. */
const FORGOTTEN_MS = 30_000;

/** Errors of the server's state, which the connection reports. All others concern the script or the keys that it found. */
const OF_THE_SERVER =
  /^(OOM|READONLY|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOSCRIPT|UNBLOCKED)\b/;

/** Scripts without which a service works, with what it knew before. */
const DISPENSABLE: ReadonlySet<string> = new Set(['lease']);

interface Failing {
  sinceMs: number;
  lastMs: number;
  message: string;
}

/** Whether the scripts work. A script fails as a whole: it checks what it is about to change before it changes anything. */
export class ScriptHealth {
  readonly #now: () => number;
  readonly #failing = new Map<string, Failing>();

  /** @param now a monotonic clock, in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @returns a message to log if the script had not failed before, or with another error */
  failed(script: string, error: Error): string | undefined {
    if (error.name !== 'ReplyError' || OF_THE_SERVER.test(error.message)) return undefined;
    const now = this.#now();
    const before = this.#failing.get(script);
    const message = error.message.replace(/ script: [0-9a-f]{40}.*$/s, '');
    this.#failing.set(script, { sinceMs: before?.sinceMs ?? now, lastMs: now, message });
    return before?.message === message
      ? ''
      : `the script ${script} failed, and nothing was changed: ${message}`;
  }

  /** @returns whether it had failed before */
  succeeded(script: string): boolean {
    return this.#failing.delete(script);
  }

  /** The script that has been failing for a while, as a message; undefined if there is none. */
  notReady(): string | undefined {
    const now = this.#now();
    for (const [script, { sinceMs, lastMs, message }] of this.#failing) {
      if (now - lastMs > FORGOTTEN_MS) this.#failing.delete(script);
      else if (DISPENSABLE.has(script)) continue;
      else if (now - sinceMs >= FAILING_MS)
        return `the script ${script} has been failing for ${Math.round((now - sinceMs) / 1000)} s: ${message}`;
    }
    return undefined;
  }
}
