/**
 * Load held for long: `make soak`, or `make soak MINUTES=3`.
 *
 *     --minutes N   how long (default 60)
 *     --rate N      spans per second (default 10,000)
 *     --every N     seconds from fault to fault (default 30)
 *     --form NAME   services (default), one, sentinel or cluster
 *     --seed N      decides the faults (default: drawn, and printed)
 *     --out DIR     where soak.jsonl gets a line for each run (default tests/artifacts/reliability)
 */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { commitHere } from './origin.ts';
import { soak } from './soak.ts';
import { FORMS, Stack } from './stack.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    rate: { type: 'string', default: '10000' },
    every: { type: 'string', default: '30' },
    form: { type: 'string', default: 'services' },
    seed: { type: 'string' },
    out: { type: 'string', default: 'tests/artifacts/reliability' },
  },
});
const seed = Number(values.seed || Math.floor(Math.random() * 2 ** 31));
const form = FORMS.find((each) => each === values.form);
if (!form) throw new Error(`--form: expected one of ${FORMS.join(', ')}`);
const dir = mkdtempSync(join(tmpdir(), 'nrdot-soak-'));
console.log(
  `seed ${seed}: ${values.rate} spans/s for ${values.minutes} min, a fault every ${values.every} s`,
);
const stack = await Stack.start(form, dir);
let failed = true;
try {
  const result = await soak(stack, {
    seed,
    durationMs: Number(values.minutes) * 60_000,
    spansPerSecond: Number(values.rate),
    faultEveryMs: Number(values.every) * 1_000,
    tell: (line) => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`),
  });
  mkdirSync(values.out, { recursive: true });
  appendFileSync(join(values.out, 'soak.jsonl'), `${JSON.stringify({ commit: commitHere(), ...result })}\n`);
  console.log(JSON.stringify(result, undefined, 2));
  failed = result.failure !== '';
} finally {
  if (failed) {
    stack.keepLogs();
    console.log(`logs and data are kept in ${dir}`);
    process.exitCode = 1;
  }
  await stack[Symbol.asyncDispose]();
  if (!failed) rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
}
