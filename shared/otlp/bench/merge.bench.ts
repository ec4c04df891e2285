/**
 * What it costs to make one gzip member of several bodies: their blocks joined, against inflating and deflating them again.
 * Run: node shared/otlp/bench/merge.bench.ts
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { BatchMaker, workload } from '@nrdot/testbed';
import { MemberJoiner } from '../src/gzip-member.ts';

const BODIES = 40;
const ROUNDS = 7;

function join(bodies: readonly Buffer[]): Buffer {
  const joiner = new MemberJoiner(bodies.reduce((sum, { byteLength }) => sum + byteLength, 0));
  for (const body of bodies) joiner.add(body);
  return joiner.joined();
}

function cpuMs(run: () => void): number {
  for (let i = 0; i < 3; i++) run();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1_000;
  });
  return rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
}

for (const items of [20, 200, 1_000]) {
  const maker = new BatchMaker(workload({ endpoint: 'http://none', encoding: 'identity', seed: 1 }), 1);
  const plain = Array.from({ length: BODIES }, () => maker.make(items, 1_795_473_412_830).body);
  const bodies = plain.map((body) => gzipSync(body));
  const plainMb = plain.reduce((sum, body) => sum + body.byteLength, 0) / 1e6;
  const wireMb = bodies.reduce((sum, body) => sum + body.byteLength, 0) / 1e6;
  console.log(
    `${BODIES} bodies of ${items} items: ${plainMb.toFixed(2)} MB, ${wireMb.toFixed(3)} MB as gzip; CPU per decompressed MB`,
  );
  const rows: [string, () => { byteLength: number }][] = [
    ['members behind each other (not one body)', () => Buffer.concat(bodies)],
    ['blocks joined', () => join(bodies)],
    ['inflated, sent plain', () => Buffer.concat(bodies.map((body) => gunzipSync(body)))],
    [
      'inflated and deflated at level 1',
      () => gzipSync(Buffer.concat(bodies.map((body) => gunzipSync(body))), { level: 1 }),
    ],
    [
      'inflated and deflated at level 6',
      () => gzipSync(Buffer.concat(bodies.map((body) => gunzipSync(body)))),
    ],
  ];
  for (const [name, run] of rows) {
    const ms = cpuMs(run);
    console.log(
      `  ${(ms / plainMb).toFixed(3)} ms  ${name}; ${(run().byteLength / 1e6).toFixed(3)} MB leave`,
    );
  }
}
