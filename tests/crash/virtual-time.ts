/**
 * Time that stands still until the run moves it. While it is installed every timer of the product's code is one of its
 * own, so that the very classes of the product run under it, loops and all.
 */
import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';

export interface Timer {
  at: number;
  order: number;
  /** Whose it is: it goes with them. */
  owner: object | undefined;
  fire(): void;
  everyMs: number | undefined;
  // As Node's timers, which may be told not to keep the process.
  unref(): Timer;
  ref(): Timer;
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  wait: timersPromises.setTimeout,
  performanceNow: performance.now,
};

/** The time that counts while it is installed. */
let current: VirtualTime;

const START_MS = 1_700_000_000_000;

export class VirtualTime {
  nowMs = START_MS;
  /** Who runs now: what it starts is its own. */
  owner: object | undefined;
  readonly #timers = new Set<Timer>();
  #order = 0;

  constructor() {
    current = this;
    immediates = [];
  }

  add(fire: () => void, ms = 0, everyMs?: number): Timer {
    const timer: Timer = {
      at: this.nowMs + Math.max(0, ms),
      order: this.#order++,
      owner: this.owner,
      fire,
      everyMs,
      unref: () => timer,
      ref: () => timer,
    };
    this.#timers.add(timer);
    return timer;
  }

  clear(timer: Timer): void {
    this.#timers.delete(timer);
  }

  /** The next timer that is due, whenever that is. */
  next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer;
    }
    return first;
  }

  /** Moves time to a timer and fires it. */
  fire(timer: Timer): void {
    this.nowMs = Math.max(this.nowMs, timer.at);
    if (timer.everyMs === undefined) this.#timers.delete(timer);
    else timer.at = this.nowMs + timer.everyMs;
    this.owner = timer.owner;
    timer.fire();
  }

  forget(owner: object): void {
    for (const timer of this.#timers) if (timer.owner === owner) this.#timers.delete(timer);
  }
}

/** What is to run in the next turn of the event loop that does not turn. */
let immediates: (() => void)[] = [];

/**
 * Lets all code run that can run without anything from outside: Node calls `nextTick` when no promise has anything to do
 * any more. The event loop itself would do too, at five times the price of a step.
 */
export async function settled(): Promise<void> {
  await quiet();
  if (immediates.length === 0) return;
  const due = immediates;
  immediates = [];
  for (const fire of due) fire();
  await quiet();
}

function quiet(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** Lets the real event loop have a turn, so that whoever runs the schedules is not deaf meanwhile. */
export function breath(): Promise<void> {
  return new Promise((resolve) => real.setImmediate(resolve));
}

/**
 * Puts virtual time in the place of the real timers of this process.
 * @returns what puts them back
 */
export function installVirtualTime(): () => void {
  const put = globalThis as unknown as Record<string, unknown>;
  put.setTimeout = (fire: () => void, ms?: number) => current.add(fire, ms);
  put.clearTimeout = (timer: Timer) => current.clear(timer);
  put.setInterval = (fire: () => void, ms: number) => current.add(fire, ms, ms);
  put.clearInterval = (timer: Timer) => current.clear(timer);
  put.setImmediate = (fire: () => void) => void immediates.push(fire);
  performance.now = () => current.nowMs;
  const promises = timersPromises as { setTimeout: unknown };
  promises.setTimeout = (ms?: number, value?: unknown) =>
    new Promise((resolve) => current.add(() => resolve(value), ms));
  syncBuiltinESMExports();
  return () => {
    const { wait, performanceNow, ...globals } = real;
    Object.assign(globalThis, globals);
    performance.now = performanceNow;
    promises.setTimeout = wait;
    syncBuiltinESMExports();
  };
}
