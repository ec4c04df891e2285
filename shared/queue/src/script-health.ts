/** A script may fail once, while somebody has his hands in Redis. After so long it is not at work. */
const FAILING_MS = 10_000;
/** What was not tried for so long may work again. */
const FORGOTTEN_MS = 30_000;

/** What Redis says in states of its own, which its connection tells. Anything else is about the script, or what it found. */
const OF_THE_SERVER =
  /^(OOM|READONLY|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOSCRIPT|UNBLOCKED)\b/;

interface Failing {
  sinceMs: number;
  lastMs: number;
  message: string;
}

/** Whether the scripts do their work. A script fails whole: each one looks at what it is about to change before it changes anything. */
export class ScriptHealth {
  readonly #now: () => number;
  readonly #failing = new Map<string, Failing>();

  /** @param now of a steady clock, in ms */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @returns what is to be told: a script has failed that had not before, or in another way */
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

  /** Which script has been failing for a while; undefined when none has. */
  notReady(): string | undefined {
    const now = this.#now();
    for (const [script, { sinceMs, lastMs, message }] of this.#failing) {
      if (now - lastMs > FORGOTTEN_MS) this.#failing.delete(script);
      else if (now - sinceMs >= FAILING_MS)
        return `the script ${script} has been failing for ${Math.round((now - sinceMs) / 1000)} s: ${message}`;
    }
    return undefined;
  }
}
