/** `make fuzz SECONDS=60 SEED=…`: every target in turn, with its counts. */
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const seconds = Number(process.argv[2] || 60);
const seed = Number(process.argv[3] || Math.floor(Math.random() * 2 ** 31));
console.log(`seed ${seed}, ${seconds} s`);
for (const target of TARGETS) {
  const done = await fuzz(target.name, seed, (seconds * 1_000) / TARGETS.length);
  console.log(
    `${done.target}: ${done.inputs} inputs, ${done.taken} taken, slowest ${done.slowestMs.toFixed(0)} ms`,
  );
}
