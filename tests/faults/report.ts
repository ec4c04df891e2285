/** Writes docs/reliability.md and the figures beside it from the results of a campaign: `node report.ts DIR`. `DIR/notes.md` says what became of the runs that failed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EIO_RATE, KINDS } from './catalogue.ts';
import type { Origin } from './origin.ts';
import { RUNS_PER_STACK, TURN } from './plan.ts';
import { readResults } from './results.ts';
import { LATE_MS, type Result } from './run.ts';
import type { SoakResult } from './soak.ts';
import { DISK_BYTES, FORMS, type Form, SETTINGS } from './stack.ts';

const PAGE = new URL('../../docs/reliability.md', import.meta.url);
const FIGURES = new URL('../../docs/reliability.json', import.meta.url);

interface Row {
  fault: string;
  runs: number;
  inPairs: number;
  obligations: number;
  missing: number;
  invented: number;
  corrupted: number;
  duplicated: number;
  recoveryP50Ms: number;
  recoveryMaxMs: number;
}

const dir = process.argv[2] ?? 'tests/artifacts/reliability';
const origin = JSON.parse(readFileSync(join(dir, 'origin.json'), 'utf8')) as Origin;
const results = readResults(dir);
const rows = KINDS.map(({ name }) =>
  row(
    name,
    results.filter(({ faults }) => faults.some(({ kind }) => kind === name)),
  ),
).filter(({ runs }) => runs > 0);
const all = row('all', results);
const failures = results.filter(({ failure }) => failure !== '');
type SoakLine = SoakResult & { commit: string };
const soakFile = join(dir, 'soak.jsonl');
const soaks = existsSync(soakFile)
  ? readFileSync(soakFile, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as SoakLine)
  : [];
const merging = [...FORMS, 'all' as const]
  .map((form) => mergingRow(form, form === 'all' ? results : results.filter((each) => each.form === form)))
  .filter(({ runs }) => runs > 0);
/** What somebody has found out about the runs that failed. */
const notesFile = join(dir, 'notes.md');
const notes = existsSync(notesFile) ? readFileSync(notesFile, 'utf8').trim() : '';
const EMPTIES_REDIS = 'redis: loses all it holds';
const isEmptied = ({ faults }: Result) => faults.some(({ kind }) => kind === EMPTIES_REDIS);
const taken = (of: Result[]) => ({ lost: sum(of, 'lost'), counted: sum(of, 'countedLost') });
const damage = taken(results.filter((each) => !isEmptied(each)));
const emptied = taken(results.filter(isEmptied));
writeFileSync(
  FIGURES,
  `${JSON.stringify({ origin, all, rows, merging, damage, emptied, failures, notes, soaks }, undefined, 2)}\n`,
);
writeFileSync(PAGE, page());
console.log(
  `wrote docs/reliability.md: ${all.runs} runs, ${all.obligations} obligations, ${failures.length} failures`,
);

function row(fault: string, of: readonly Result[]): Row {
  const times = of.filter(({ failure }) => failure === '').map(({ recoveryMs }) => recoveryMs);
  times.sort((a, b) => a - b);
  return {
    fault,
    runs: of.length,
    inPairs: of.filter(({ faults }) => faults.length > 1).length,
    obligations: sum(of, 'obligations'),
    missing: sum(of, 'missing'),
    invented: sum(of, 'invented'),
    corrupted: sum(of, 'corrupted'),
    duplicated: sum(of, 'duplicated'),
    recoveryP50Ms: times[Math.floor((times.length - 1) / 2)] ?? 0,
    recoveryMaxMs: times.at(-1) ?? 0,
  };
}

interface MergingRow {
  form: Form | 'all';
  runs: number;
  points: number;
  series: number;
  totalsJudged: number;
  totalsExact: number;
  totalsWrong: number;
}

/** Of the runs that had producers of cumulative streams and gauges. */
function mergingRow(form: MergingRow['form'], of: readonly Result[]): MergingRow {
  const merged = of.filter(({ mergedPoints }) => mergedPoints > 0);
  const bounded = merged.filter(({ totalsExact, failure }) => totalsExact === 0 && failure === '');
  const totalsJudged = sum(merged, 'totalsJudged');
  const totalsExact = sum(merged, 'totalsExact');
  return {
    form,
    runs: merged.length,
    points: sum(merged, 'mergedPoints'),
    series: sum(merged, 'mergedSeries'),
    totalsJudged,
    totalsExact,
    totalsWrong: totalsJudged - totalsExact - sum(bounded, 'totalsJudged'),
  };
}

type Counted = { [K in keyof Result]: Result[K] extends number ? K : never }[keyof Result];

function sum(of: readonly Result[], what: Counted): number {
  return of.reduce((total, result) => total + result[what], 0);
}

function page(): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const s = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
  const cells = (r: Row) => [
    r.fault,
    ...[r.runs, r.inPairs, r.obligations, r.missing, r.invented, r.corrupted, r.duplicated].map(n),
    s(r.recoveryP50Ms),
    s(r.recoveryMaxMs),
  ];
  const line = (texts: readonly string[]) => `| ${texts.join(' | ')} |`;
  return `# Reliability

What was done to the pipeline, and what became of what it had acknowledged. This page is written by \`make reliability\` from
measured results; the figures are in \`reliability.json\`.

**${n(all.runs)} fault runs, ${n(all.obligations)} obligations: ${n(all.missing)} missing, ${n(all.invented)} invented, ${n(all.corrupted)} corrupted; ${n(failures.length)} runs failed.**

Commit \`${origin.commit}\`, seed ${origin.seed}, Node ${origin.node}, Redis ${origin.redis}, ${origin.cpu}, begun ${origin.startedAt}.

## How it is judged
A run is load, one or two faults drawn from the seed, their end, and a judgement. Clients send batches of spans, log records and
metric points with unique ids and a checksum, and retry as OTLP/HTTP says. A 200 makes each item an **obligation**. Within
${LATE_MS / 1000} s after faults and load ended every obligation has to be at the upstream, nothing may be queued or on disk, and the
books have to balance to the item; else the run fails.

- **Missing**: acknowledged and not there. **Invented**: there, and refused, never sent, or cut off in mid-body.
  **Corrupted**: other bytes than were sent, or under another signal.
- **Duplicated**: at least once is the promise. Where no fault can hide an answer the pipeline may repeat nothing: all that is
  allowed are batches that a client sent again, and those that the books have as accepted twice: a receiver that does not hear
  from Redis in its time gives a batch to the dlq. Where one can (a kill, a cut, a lost answer), at most ${SETTINGS.exporter.retry.max_attempts}
  times the items of the run are allowed; most of what is counted here comes from faults that take a request and withhold the answer. An
  exporter that gave up waiting, because the machine was that busy, counts as such a fault.
- **Class**: a request to the upstream has one class, so items of two in one request were sent as another; counted as
  corrupted. **Order** is promised nowhere: batches of a class may overtake each other; within a batch nothing is changed, which
  the checksums and counts show.
- **Recovery**: from the end of faults and load until the last obligation had arrived, the books' balance included in the run but not
  in this time. Several stacks and all their processes shared the machine, so these are upper figures.

| form | what it is | stacks of ${RUNS_PER_STACK} runs |
| --- | --- | ---: |
| \`services\` | two receivers behind a load balancer that gives each request to the next one, two schedulers, two exporters, dlq and Redis (AOF, \`appendfsync always\`) as processes, every connection through a proxy of its own | ${turns('services')} |
| \`one\` | \`nrdot up\` with its private Redis | ${turns('one')} |
| \`sentinel\` | the services on a primary with a replica under Sentinel, \`redis.min_replicas: 1\` | ${turns('sentinel')} |
| \`cluster\` | the services on a Redis Cluster of three nodes | ${turns('cluster')} |

The dlq's disk has ${DISK_BYTES / 1024 / 1024} MiB. Times are shorter than the defaults, so that breakers open and close and retries run out within a
run (\`SETTINGS\` in \`tests/faults/stack.ts\`).

## Results
${line(['fault', 'runs', 'of them in pairs', 'obligations', 'missing', 'invented', 'corrupted', 'duplicated', 'recovery p50', 'max'])}
${line(['---', ...Array.from({ length: 9 }, () => '---:')])}
${rows.map((r) => line(cells(r))).join('\n')}
${line(cells({ ...all, fault: '**all**' }))}

A run with two faults is in two rows, and once in the last. Bits flipped in segments took ${n(damage.lost)} items, which nothing can
bring back; the product counted ${n(damage.counted)} as lost to damage. They have to be equal, and are not in the column of the missing. A
Redis that lost all it held took ${n(emptied.lost)} of the obligations; the product counted ${n(emptied.counted)}: it counts also what it held of
requests that were not acknowledged, of copies, and of the producers below.

${merging.length === 0 ? '' : totals()}${failures.length === 0 ? 'No run failed.' : `## Failed runs\n${failures.map(failed).join('\n')}${notes && `\n\n${notes}`}`}

${soaks.length === 0 ? '' : held(soaks)}## What is not covered
- Clock steps are those of one process's wall clock, by an hour and back, done from inside it. Redis' own clock, by which the
  breaker opens and closes and locks expire, is not stepped.
- EIO is made by the process itself, below the file system seam: ${EIO_RATE * 100} % of writes and fsyncs fail for a while. EIO of any other
  operation (open, read, rename, unlink) is tried once at each place of a life on a simulated disk, not in these runs.
- A real power cut. The segment log is tested on a simulated disk that forgets what was not synced; for Redis a kill and an AOF
  torn at its end stand for it. With \`durability: everysec\` the last second may be lost, as documented.
- Without \`redis.min_replicas\` a replica that is promoted may lack the last acknowledged writes, since Redis replicates
  asynchronously: then they are lost. The form \`sentinel\` has it set.
- A Cluster's nodes have no replicas here; its slot is moved, and the node that has it is killed and frozen.
- Damage to a record on disk while Redis holds its batch too, being spilled or replayed, and the dlq is killed: it is counted as
  lost and comes all the same, so the books are off by it.
- Damage to the end of a segment within the second in which it was written, and the dlq killed in that second: it looks like a
  write that was cut off, and is lost without being counted.

## Again
\`make reliability\` does all of it, and \`make reliability CONTINUE=1\` goes on where it was stopped: the same seed makes the same
faults and loads, though not the same interleaving. \`make faults SEED=${origin.seed} FROM=17 RUNS=1\` does run 17 alone.
\`make soak\` holds the load.
`;
}

/** What became of merged streams. */
function totals(): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const cells = ({ form, runs, points, series, totalsJudged, totalsExact, totalsWrong }: MergingRow) =>
    `| ${form === 'all' ? '**all**' : `\`${form}\``} | ${[runs, points, series, totalsJudged, totalsExact, totalsWrong].map(n).join(' | ')} |`;
  return `### Merged totals
Most of the runs also have four producers of counters, histograms, exponential histograms, levels and gauges, whose series come
and go, restart, and send their requests to either receiver; the limiter acts from the first key-set on, and gives up their label. What
a backend makes of the streams that came out is held against what was counted at the source, to the last bit, by a model that shares
no code with the product. Gauges have no total: each reading that came out has to be one that was sent.

| form | runs | points | series | totals judged | exact | wrong |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${merging.map(cells).join('\n')}

Totals that are neither exact nor wrong are of stacks whose disk was damaged before: there they are held to be no more than what
was sent.

`;
}

/** How often a form comes, of all turns. */
function turns(form: Form): string {
  return `${TURN.filter((each) => each === form).length} in ${TURN.length}`;
}

function held(of: readonly SoakLine[]): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const runs = of.map(
    (r) =>
      `| \`${r.commit.slice(0, 7)}\` ${r.form} | ${(r.seconds / 60).toFixed(0)} min | ${n(r.spansPerSecond)} | ${r.faults} | ${n(r.obligations)} | ${r.missing} | ${r.invented} | ${r.corrupted} | ${n(r.duplicated)} | ${(r.drainedMs / 1000).toFixed(1)} s | ${r.failure === '' ? 'none' : r.failure.slice(0, 200)} |`,
  );
  const last = of.at(-1)!;
  const processes = last.held.map(
    (p) =>
      `| ${p.process} | ${p.rssBeforeMiB} | ${p.rssAfterMiB} | ${p.descriptorsBefore} | ${p.descriptorsAfter} |`,
  );
  return `## Load held
\`make soak\`: a steady load, a fault from the catalogue every 30 s, then the queues have to drain within ${LATE_MS / 1000} s.

| commit and form | for | spans/s | faults | obligations | missing | invented | corrupted | duplicated | drained after | complaints |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
${runs.join('\n')}

Processes of the last of these, medians of the second and of the last quarter of the time:

| process | RSS in MiB, then | at the end | descriptors, then | at the end |
| --- | ---: | ---: | ---: | ---: |
${processes.join('\n')}

`;
}

function failed({ seed, index, form, faults, failure }: Result): string {
  const what = faults.map(({ kind, target }) => `${kind} @ ${target}`).join(' + ');
  return `- \`SEED=${seed} FROM=${index}\` (${form}; ${what}): ${failure.split('\n')[0]!.slice(0, 400)}`;
}
