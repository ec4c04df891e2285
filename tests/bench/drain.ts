/**
 * What a drain costs. The start of the exporter is booked apart: it costs as much as some MiB do, and what it costs says nothing of
 * them.
 * Run: node tests/bench/drain.ts, or against an earlier commit: node tests/bench/drain.ts --base main~5
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { temporaryDirectory, type Workload } from '@nrdot/testbed';
import { type Drain, drain } from './draining.ts';
import { checkOut, removeTree } from './earlier-tree.ts';
import { Sink } from './upstream.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const ROUNDS = 3;
const MIB = 1048576;

/** Large requests leave as they came; small ones are joined. */
const BACKLOGS = {
  '1,000 requests of 500 spans': { items: 500_000, batchSize: 500 },
  '20,000 requests of 5 spans': { items: 100_000, batchSize: 5 },
} satisfies Record<string, Partial<Workload>>;

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function show(title: string, drains: readonly Drain[]): void {
  const mib = drains[0]!.bodyBytes / MIB;
  const of = (value: (drain: Drain) => number) => median(drains.map(value));
  process.stdout.write(
    `  ${title.padEnd(10)} ${of(({ seconds }) => mib / seconds).toFixed(1)} MiB/s of OTLP before compression, ` +
      `CPU per MiB: exporter ${of((d) => d.exporterMs / mib).toFixed(2)} ms, all with Redis ${of((d) => d.allMs / mib).toFixed(2)} ms; ` +
      `${of((d) => d.requests)} requests; start of the exporter ${of((d) => d.startMs)} ms\n`,
  );
}

/** Of the drains that followed each other: what else the machine does meets both. */
function showRatios(before: readonly Drain[], after: readonly Drain[]): void {
  const of = (value: (drain: Drain) => number) => {
    const ratios = after.map((drain, i) => value(drain) / value(before[i]!));
    return `${median(ratios).toFixed(2)} (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')})`;
  };
  process.stdout.write(
    `  ratios of pairs: throughput ${of(({ seconds }) => 1 / seconds)}, CPU of the exporter ${of((d) => d.exporterMs)}, ` +
      `of all ${of((d) => d.allMs)}, start of the exporter ${of((d) => d.startMs)}\n`,
  );
}

async function compare(trees: Record<string, string>): Promise<void> {
  // What is run where it is used.
  for (const tree of Object.values(trees)) execFileSync(process.execPath, ['cli/build.ts'], { cwd: tree });
  const sink = await new Sink().start();
  try {
    for (const [title, backlog] of Object.entries(BACKLOGS)) {
      const drains: Record<string, Drain[]> = {};
      for (let round = 0; round < ROUNDS; round++) {
        // In turns, so that a busy moment of the machine meets both.
        for (const [name, tree] of Object.entries(trees)) {
          drains[name] ??= [];
          drains[name].push(await drain(join(tree, 'dist/nrdot.js'), sink, backlog));
        }
      }
      process.stdout.write(`${title}, median of ${ROUNDS}:\n`);
      for (const [name, measured] of Object.entries(drains)) show(name, measured);
      const [before, after] = Object.values(drains);
      if (before && after) showRatios(before, after);
    }
  } finally {
    await sink.process.end('SIGTERM');
  }
}

const { values: flags } = parseArgs({ options: { base: { type: 'string' } } });
if (!flags.base) await compare({ now: ROOT });
else {
  using dir = temporaryDirectory();
  const tree = checkOut(flags.base, dir.path);
  try {
    await compare({ [flags.base]: tree, now: ROOT });
  } finally {
    removeTree(tree);
  }
}
