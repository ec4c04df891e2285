/**
 * Loaded into a process before its own code (`node --import`): all its clocks of the day are as far from the machine's as the file
 * NRDOT_TEST_CLOCK says, in ms, and go on when that changes. Hours pass as on a machine that was asleep: nothing is late, all is older.
 */
import { readFileSync, watchFile } from 'node:fs';

const file = process.env.NRDOT_TEST_CLOCK ?? '';
/** Much shorter than whoever waits for it does. */
const LOOK_MS = 20;

if (file) {
  let shiftMs = 0;
  const read = () => {
    shiftMs = Number(readFileSync(file, 'utf8'));
  };
  read();
  watchFile(file, { interval: LOOK_MS, persistent: false }, read);

  const wall = Date.now.bind(Date);
  const now = () => wall() + shiftMs;
  globalThis.Date = new Proxy(Date, {
    construct: (target, args, as) => Reflect.construct(target, args.length === 0 ? [now()] : args, as),
    get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
  });
  const { timeOrigin } = performance;
  Object.defineProperty(performance, 'timeOrigin', { get: () => timeOrigin + shiftMs });
}
