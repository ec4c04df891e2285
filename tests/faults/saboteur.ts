/**
 * Loaded into a service before its own code (`node --import`), this does to it what only its machine can: steps its
 * clock, and lets its disk fail. It takes orders from the file NRDOT_FAULT_ORDERS, at its start and at each SIGUSR2.
 */
import { existsSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { isMainThread } from 'node:worker_threads';
import type { Orders } from './orders.ts';

const file = process.env.NRDOT_FAULT_ORDERS ?? '';
let orders: Orders = {};
const read = () => {
  orders = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Orders) : {};
};

if (file && isMainThread) {
  read();
  process.on('SIGUSR2', read);
  stepClock();
  await failDisk();
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

/** Writes and fsyncs through file handles, which is how the segment log and its ledger write, and nothing else does. */
async function failDisk(): Promise<void> {
  await using handle = await open('/dev/null', 'r');
  const methods = Object.getPrototypeOf(handle) as Record<string, (...args: unknown[]) => Promise<unknown>>;
  for (const name of ['write', 'writeFile', 'sync', 'datasync']) {
    const real = methods[name]!;
    methods[name] = async function (this: unknown, ...args: unknown[]) {
      if (Math.random() < (orders.eioRate ?? 0))
        throw Object.assign(new Error(`EIO: i/o error, ${name}`), { code: 'EIO', errno: -5, syscall: name });
      return real.apply(this, args);
    };
  }
}
