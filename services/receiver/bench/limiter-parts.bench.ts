/**
 * What the limiter's parts cost by themselves: a look-up in the full table, and the entropy of a label set of five labels.
 * CPU time, so that other work on the machine does not count. Run: node services/receiver/bench/limiter-parts.bench.ts
 */
import { type EntropySketch, SketchPool } from '../src/limiter/admission/entropy.ts';
import { KeyTable } from '../src/limiter/admission/key-table.ts';
import { Random } from '../src/limiter/hash.ts';

const KEYS = 65_536;
const CALLS = 1 << 20;
const ROUNDS = 7;
const LABELS = 5;

/** Median over rounds, after one to warm up. */
function nsPerCall(run: (call: number) => void): number {
  const rounds = Array.from({ length: ROUNDS + 1 }, () => {
    const before = process.cpuUsage();
    for (let call = 0; call < CALLS; call++) run(call);
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1000) / CALLS;
  });
  return rounds.slice(1).sort((a, b) => a - b)[ROUNDS >> 1]!;
}

const random = new Random(4711);
const table = new KeyTable(KEYS);
const present = Int32Array.from({ length: KEYS * 2 }, () => random.next() | 0);
for (let i = 0; i < KEYS; i++) table.add(present[2 * i]!, present[2 * i + 1]!, 1, 1);
// In random order: neighbours in time are not neighbours in the table.
const order = Int32Array.from({ length: CALLS }, () => random.next() % KEYS);
const absent = Int32Array.from({ length: CALLS }, () => random.next() | 0);
let found = 0;

const pool = new SketchPool(LABELS, random);
const sketches: EntropySketch[] = Array.from({ length: LABELS }, () => pool.take(0)!);
// From a handful of values to ones that never repeat, as labels of real metrics are.
const distinct = [6, 60, 4_096, 65_536, CALLS];
const values = distinct.map((n) => {
  const hashes = Int32Array.from({ length: n }, () => random.next() | 0);
  return Int32Array.from({ length: CALLS }, (_, i) => hashes[n === CALLS ? i : random.next() % n]!);
});

for (const [name, ns] of [
  [
    `look-up of a known key-set, ${KEYS} keys`,
    nsPerCall((call) => {
      const key = order[call]!;
      const slot = table.find(present[2 * key]!, present[2 * key + 1]!);
      table.touch(slot, 2);
      found += slot;
    }),
  ],
  [
    `look-up of an unknown key-set, ${KEYS} keys`,
    nsPerCall((call) => {
      found += table.find(absent[call]!, call);
    }),
  ],
  [
    `entropy of a label set, ${LABELS} labels`,
    nsPerCall((call) => {
      for (let label = 0; label < LABELS; label++) sketches[label]!.add(values[label]![call]!, 1);
    }),
  ],
] as const)
  console.log(`${ns.toFixed(0).padStart(6)} ns  ${name}`);
if (found === 0) throw new Error('nothing was looked up');
