/**
 * Many fault runs from one seed: `make faults RUNS=100 SEED=7`. One line for each run; what failed is kept, with the
 * data and the logs of its stack.
 *
 *     --runs N      fault runs, from --from on (default 50 from 0)
 *     --seed N      decides everything that is random (default: drawn, and printed)
 *     --lanes N     stacks at once (default 2); they mostly wait
 *     --kind NAME   draw from this kind of fault only; may be given more than once
 *     --form NAME   services or one; without it both
 *     --out DIR     where results.jsonl and what failed are kept (default tests/artifacts/faults)
 *     --continue    go on with what is in DIR, with its seed: runs that are done stay, the others are done now.
 *                   Several processes may do so at once, and share the runs between them.
 */
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { kindOf } from './catalogue.ts';
import { commitHere, readOrigin, writeOrigin } from './origin.ts';
import { describe, formOf, type Plan, plan, RUNS_PER_STACK } from './plan.ts';
import { claim, readResults } from './results.ts';
import { faultRun, judgeAgain, type Result, type Verdict } from './run.ts';
import { FORMS, type Form, Stack } from './stack.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '50' },
    from: { type: 'string', default: '0' },
    seed: { type: 'string' },
    lanes: { type: 'string', default: '2' },
    kind: { type: 'string', multiple: true, default: [] },
    form: { type: 'string' },
    out: { type: 'string', default: 'tests/artifacts/faults' },
    continue: { type: 'boolean', default: false },
  },
});
const earlier = values.continue ? readOrigin(values.out) : undefined;
if (earlier && earlier.commit !== commitHere())
  throw new Error(
    `${values.out} has results of commit ${earlier.commit}, and this is ${commitHere()}; expected the same, or another --out`,
  );
const seed = earlier?.seed ?? Number(values.seed || Math.floor(Math.random() * 2 ** 31));
const from = Number(values.from);
const to = from + Number(values.runs);
const form = FORMS.find((each) => each === values.form);
for (const name of values.kind) kindOf(name);
const results = join(values.out, 'results.jsonl');
if (!earlier) {
  rmSync(values.out, { recursive: true, force: true });
  mkdirSync(values.out, { recursive: true });
  writeOrigin(values.out, seed, Number(values.lanes));
}
const done = new Set(readResults(values.out).map(({ index }) => index));
const STARTS = 3;
const total = { runs: 0, obligations: 0, failures: 0 };
const startedAt = Date.now();
console.log(
  `seed ${seed}: fault runs ${from} to ${to - 1}, ${done.size} of them done, on ${values.lanes} lanes, into ${results}`,
);

/** Runs that share a stack. */
const blocks: Plan[][] = [];
for (let index = from; index < to; ) {
  const end = Math.min(to, (Math.floor(index / RUNS_PER_STACK) + 1) * RUNS_PER_STACK);
  const block: Plan[] = [];
  for (; index < end; index++)
    if (!done.has(index)) block.push(plan(seed, index, form ?? formOf(index), values.kind));
  if (block.length > 0) blocks.push(block);
}

await Promise.all(Array.from({ length: Math.min(Number(values.lanes), blocks.length) }, lane));
const minutes = ((Date.now() - startedAt) / 60_000).toFixed(1);
console.log(
  `seed ${seed}: ${total.runs} fault runs, ${total.obligations} obligations, ${total.failures} failures, ${minutes} min`,
);
process.exitCode = total.failures > 0 ? 1 : 0;

async function lane(): Promise<void> {
  for (let block = blocks.shift(); block; block = blocks.shift()) {
    using claimed = claim(values.out, Math.floor(block[0]!.index / RUNS_PER_STACK));
    if (!claimed) continue;
    const done = new Set(readResults(values.out).map(({ index }) => index)); // by another process, meanwhile
    const left = block.filter(({ index }) => !done.has(index));
    // A stack that failed is not used again: the rest of its runs get a new one.
    for (let at = 0; at < left.length; ) at += await onOneStack(left[0]!.form, left.slice(at));
  }
}

/** @returns runs done */
async function onOneStack(which: Form, plans: readonly Plan[]): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'nrdot-faults-'));
  let stack: Stack;
  try {
    stack = await startStack(which, dir);
  } catch (error) {
    tell(plans[0]!, broken(plans[0]!, error as Error), 0);
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
    return 1;
  }
  const verdicts: Verdict[] = [];
  let failed = false;
  let done = 0;
  try {
    for (const each of plans) {
      done++;
      if (each.faults.some((fault) => kindOf(fault.kind).needs?.(stack) === false)) continue;
      const started = performance.now();
      let result: Result;
      try {
        const verdict = await faultRun(stack, each);
        verdicts.push(verdict);
        result = verdict.result;
      } catch (error) {
        result = broken(each, error as Error);
      }
      tell(each, result, performance.now() - started);
      if (result.failure === '') continue;
      failed = true;
      keep(stack, each, result);
      break;
    }
    for (const verdict of verdicts) {
      const late = judgeAgain(stack, verdict);
      if (late === '') continue;
      total.failures++;
      console.log(`  FAILED afterwards #${verdict.result.index}: ${late}`);
      appendFileSync(results, `${JSON.stringify({ ...verdict.result, failure: late })}\n`);
    }
  } finally {
    if (failed) stack.keepLogs();
    await stack[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  }
  return done;
}

/** On a machine with much else to do a stack may not be ready in time. That is no fault run yet: it is tried again. */
async function startStack(which: Form, dir: string, tries = STARTS): Promise<Stack> {
  try {
    return await Stack.start(which, join(dir, String(tries)));
  } catch (error) {
    if (tries <= 1) throw error;
    console.log(`  a stack did not start, and is tried again: ${(error as Error).message.slice(0, 200)}`);
    return startStack(which, dir, tries - 1);
  }
}

function tell(each: Plan, result: Result, tookMs: number): void {
  total.runs++;
  total.obligations += result.obligations;
  if (result.failure) total.failures++;
  appendFileSync(results, `${JSON.stringify(result)}\n`);
  const fate = result.failure
    ? `FAILED: ${result.failure}`
    : `ok, back after ${result.recoveryMs} ms, ${result.duplicated} twice`;
  console.log(`${total.runs}/${to - from} ${describe(each)}: ${fate} (${(tookMs / 1000).toFixed(1)} s)`);
}

function keep(stack: Stack, each: Plan, result: Result): void {
  const kept = join(values.out, `failure-${each.seed}-${each.index}`);
  rmSync(kept, { recursive: true, force: true });
  stack.keepLogs();
  writeFileSync(join(stack.dir, 'failure.json'), JSON.stringify({ plan: each, result }, undefined, 2));
  cpSync(stack.dir, kept, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  console.log(`  kept in ${kept}; again: make faults SEED=${each.seed} FROM=${each.index} RUNS=1`);
}

function broken(each: Plan, error: Error): Result {
  return {
    index: each.index,
    seed: each.seed,
    form: each.form,
    faults: each.faults.map(({ kind, target }) => ({ kind, target })),
    ...{ obligations: 0, missing: 0, invented: 0, corrupted: 0, duplicated: 0, duplicatesAllowed: 0 },
    ...{
      lost: 0,
      countedLost: 0,
      mergedPoints: 0,
      mergedSeries: 0,
      totalsJudged: 0,
      totalsExact: 0,
      recoveryMs: 0,
      settledMs: 0,
    },
    failure: `the run itself broke: ${error.message}`,
  };
}
