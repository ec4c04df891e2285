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

Faults that were injected into the pipeline, and what happened to acknowledged data. \`make reliability\` generates this page from
measured results; the figures are in \`reliability.json\`.

**${n(all.runs)} fault runs, ${n(all.obligations)} obligations: ${n(all.missing)} missing, ${n(all.invented)} invented, ${n(all.corrupted)} corrupted; ${n(failures.length)} runs failed.**

Commit \`${origin.commit}\`, seed ${origin.seed}, Node ${origin.node}, Redis ${origin.redis}, ${origin.cpu}, started ${origin.startedAt}.

## How runs are judged
A run consists of load, one or two faults derived from the seed, their end, and a judgement. Clients send batches of spans, log records and
metric points with unique ids and a checksum, and retry as OTLP/HTTP specifies. A 200 makes each item an **obligation**. Within
${LATE_MS / 1000} s after faults and load have ended, every obligation must be at the upstream, nothing may be queued or on disk, and the
books must balance to the item; otherwise the run fails.

- **Missing**: acknowledged but did not arrive. **Invented**: arrived although it was refused, never sent, or cut off mid-body.
  **Corrupted**: arrived with other bytes than were sent, or under another signal.
- **Duplicated**: delivery is at least once. If no fault can hide an answer, the pipeline may repeat nothing. The only exceptions are
  batches that a client sent again, and those that count as accepted twice because a receiver gave them to the dlq when Redis did not
  answer in time. If a fault can hide an answer (a kill, a broken connection, a lost answer), at most ${SETTINGS.exporter.retry.max_attempts}
  times the items of the run are allowed; most duplicates come from faults that accept a request and withhold the answer. An exporter
  that gave up waiting because the machine was so busy counts as such a fault.
- **Class**: a request to the upstream has one class, so if a request contains items of two classes, they count as corrupted.
  **Order** is not guaranteed: batches of a class may overtake each other. Within a batch nothing is changed, which the checksums and
  counts show.
- **Recovery**: from the end of faults and load until the last obligation arrived; the balance of the books is checked in the run but not
  included in this time. Several stacks with all their processes shared the machine, so these are upper bounds.

| form | what it is | stacks of ${RUNS_PER_STACK} runs |
| --- | --- | ---: |
| \`services\` | two receivers behind a load balancer that gives each request to the next one, two schedulers, two exporters, dlq and Redis (AOF, \`appendfsync always\`) as processes, every connection through its own proxy | ${turns('services')} |
| \`one\` | \`nrdot up\` with its private Redis | ${turns('one')} |
| \`sentinel\` | the services on a primary with a replica under Sentinel, \`redis.min_replicas: 1\` | ${turns('sentinel')} |
| \`cluster\` | the services on a Redis Cluster of three nodes | ${turns('cluster')} |

The dlq's disk has ${DISK_BYTES / 1024 / 1024} MiB. Times are shorter than the defaults, so that breakers open and close and retries are exhausted within a
run (\`SETTINGS\` in \`tests/faults/stack.ts\`).

## Results
${line(['fault', 'runs', 'in pairs', 'obligations', 'missing', 'invented', 'corrupted', 'duplicated', 'recovery p50', 'max'])}
${line(['---', ...Array.from({ length: 9 }, () => '---:')])}
${rows.map((r) => line(cells(r))).join('\n')}
${line(cells({ ...all, fault: '**all**' }))}

A run with two faults appears in two rows, and once in the last. Flipped bits in segments destroyed ${n(damage.lost)} items irrecoverably;
the product counted ${n(damage.counted)} as lost to damage. The two must be equal; they are not in the column of missing items. A Redis that
lost its data took ${n(emptied.lost)} of the obligations with it; the product counted ${n(emptied.counted)}, because it also counts items of
unacknowledged requests, duplicates, and the producers below.

${merging.length === 0 ? '' : totals()}${failures.length === 0 ? 'No run failed.' : `## Failed runs\n${failures.map(failed).join('\n')}${notes && `\n\n${notes}`}`}

${soaks.length === 0 ? '' : held(soaks)}## What is not covered
- Clock steps change the wall clock of one process, by an hour and back, from inside it. Redis' own clock, by which the breaker opens and
  closes and locks expire, is not stepped.
- EIO is injected by the process itself, below the file system interface: ${EIO_RATE * 100} % of writes and fsyncs fail for a while. EIO of any other
  operation (open, read, rename, unlink) is tested once at every point on a simulated disk, not in these runs.
- There is no real power failure. The segment log is tested on a simulated disk that forgets unsynced data; for Redis, a kill and a
  torn end of the AOF simulate it. With \`durability: everysec\` the last second may be lost, as documented.
- Without \`redis.min_replicas\` a promoted replica may lack the last acknowledged writes, because Redis replicates
  asynchronously; these are then lost. The form \`sentinel\` sets it.
- The nodes of the Cluster have no replicas; the slot is migrated, and its node is killed and frozen.
- If a record on disk is damaged while its batch is also in Redis (being spilled or replayed) and the dlq is killed, the batch counts as
  lost but is still delivered, so the books are off by it.
- If the end of a segment is damaged within the second in which it was written, and the dlq is killed in that second, it looks like an
  incomplete write, and is lost without being counted.

## Reproducing it
\`make reliability\` runs everything, and \`make reliability CONTINUE=1\` continues where it was stopped. The same seed yields the same faults
and loads, though not the same interleaving. \`make faults SEED=${origin.seed} FROM=17 RUNS=1\` repeats run 17.
\`make soak\` runs the sustained load.
`;
}

/** What became of merged streams. */
function totals(): string {
  const n = (value: number) => value.toLocaleString('en-US');
  const cells = ({ form, runs, points, series, totalsJudged, totalsExact, totalsWrong }: MergingRow) =>
    `| ${form === 'all' ? '**all**' : `\`${form}\``} | ${[runs, points, series, totalsJudged, totalsExact, totalsWrong].map(n).join(' | ')} |`;
  return `### Merged totals
Most runs also have four producers of counters, histograms, exponential histograms, levels and gauges. Their series come and go, restart,
and send their requests to either receiver. The limiter acts from the first key-set, and strips their label. A model that shares no code
with the product computes what a backend makes of the output, and compares it with what was counted at the source, to the last bit.
Gauges have no total: each value in the output must be one that was sent.

| form | runs | points | series | totals judged | exact | wrong |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${merging.map(cells).join('\n')}

Totals that are neither exact nor wrong belong to stacks whose disk was damaged before: they must not exceed what was sent.

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
  return `## Sustained load
\`make soak\`: a steady load with a fault from the catalogue every 30 s; afterwards the queues must drain within ${LATE_MS / 1000} s.

| commit and form | duration | spans/s | faults | obligations | missing | invented | corrupted | duplicated | drained after | complaints |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
${runs.join('\n')}

Processes of the last run, medians of the second and the last quarter of the time:

| process | RSS in MiB, early | at the end | descriptors, early | at the end |
| --- | ---: | ---: | ---: | ---: |
${processes.join('\n')}

`;
}

function failed({ seed, index, form, faults, failure }: Result): string {
  const what = faults.map(({ kind, target }) => `${kind} @ ${target}`).join(' + ');
  return `- \`SEED=${seed} FROM=${index}\` (${form}; ${what}): ${failure.split('\n')[0]!.slice(0, 400)}`;
}
