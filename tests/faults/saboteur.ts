/**
 * Loaded into a service before its own code (`node --import`), this does to it what only its machine can: steps its
 * clock, and lets its disk fail. It takes orders from the file NRDOT_FAULT_ORDERS, at its start and whenever that changes: a signal
 * could come while the process replaces itself by another image, and end it.
 */
import { existsSync, readFileSync, watchFile } from 'node:fs';
import promises, { open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { setTimeout as wait } from 'node:timers/promises';
import { isMainThread } from 'node:worker_threads';
import type { Orders } from './orders.ts';

const file = process.env.NRDOT_FAULT_ORDERS ?? '';
/** Much shorter than a fault. */
const LOOK_MS = 20;
let orders: Orders = {};
const read = () => {
  orders = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Orders) : {};
};

if (file && isMainThread) {
  read();
  watchFile(file, { interval: LOOK_MS, persistent: false }, read);
  stepClock();
  await failHandles();
  failFiles();
}

/** The wall clock only: what measures intervals by it is what shall be found. */
function stepClock(): void {
  const wall = Date.now.bind(Date);
  const now = () => wall() + (orders.clockMs ?? 0);
  globalThis.Date = new Proxy(Date, {
    construct: (target, args, as) => Reflect.construct(target, args.length === 0 ? [now()] : args, as),
    get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
  });
}

type Methods = Record<string, (...args: unknown[]) => Promise<unknown>>;

/** Through file handles the segment log and its ledger read, write and fsync, and nothing else does. */
async function failHandles(): Promise<void> {
  await using handle = await open('/dev/null', 'r');
  const methods = Object.getPrototypeOf(handle) as Methods;
  for (const name of ['write', 'writeFile', 'sync', 'datasync']) {
    spoil(methods, name, async () => {
      mayFail(orders.eioRate, name);
      if (orders.fsyncMs && name.endsWith('sync')) await wait(orders.fsyncMs);
    });
  }
  spoil(methods, 'read', async () => mayFail(orders.eioElsewhereRate, 'read'));
}

/** What the segment log does to whole files. A directory of other files, or of another process, is not its. */
function failFiles(): void {
  const methods = promises as unknown as Methods;
  for (const name of ['open', 'rename', 'unlink', 'readdir']) {
    spoil(methods, name, async (path) => {
      if (/[/]dlq(?:[/]|$)/.test(String(path))) mayFail(orders.eioElsewhereRate, name);
    });
  }
  syncBuiltinESMExports();
}

function spoil(methods: Methods, name: string, before: (...args: unknown[]) => Promise<void>): void {
  const real = methods[name]!;
  methods[name] = async function (this: unknown, ...args: unknown[]) {
    await before(...args);
    return real.apply(this, args);
  };
}

function mayFail(rate: number | undefined, syscall: string): void {
  if (Math.random() < (rate ?? 0))
    throw Object.assign(new Error(`EIO: i/o error, ${syscall}`), { code: 'EIO', errno: -5, syscall });
}
