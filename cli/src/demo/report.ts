import { VERSION } from '../version.ts';
import type { ActResult, Finding, Outcome } from './finding.ts';
import { escaped, linePlot } from './line-plot.ts';

const STYLE = `
:root { color-scheme: light dark; --ink: #1d2329; --soft: #66707a; --line: #dfe4e8; --paper: #fff;
  --c0: #2563a8; --c1: #c2571a; --c2: #2f855a; --good: #1a7f4b; --bad: #b42318; --open: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ab; --line: #343b42; --paper: #15191d;
  --c0: #6ea8e5; --c1: #f0935a; --c2: #68c093; --good: #5fc98e; --bad: #ff8a80; --open: #e3b341; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-top: 1px solid var(--line); }
.held { color: var(--good); } .broken { color: var(--bad); font-weight: 600; } .unmeasured { color: var(--open); }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9rem; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } .grid { stroke: var(--line); }
.line { fill: none; stroke-width: 1.8; } .mark { stroke: var(--soft); stroke-dasharray: 3 3; } .limit { stroke: var(--bad); stroke-dasharray: 6 3; }
.key { margin-left: .8rem; white-space: nowrap; } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; }
.line.s0 { stroke: var(--c0); } .line.s1 { stroke: var(--c1); } .line.s2 { stroke: var(--c2); }
i.s0 { background: var(--c0); } i.s1 { background: var(--c1); } i.s2 { background: var(--c2); }
`;

/** For the table on a terminal; only a broken promise stands out. */
const MARKS: Record<Outcome, string> = { held: 'held', broken: 'BROKEN', unmeasured: 'unmeasured' };

export function verdict(acts: readonly ActResult[]) {
  const findings = acts.flatMap((act) => act.findings);
  const of = (wanted: Outcome) => findings.filter(({ outcome }) => outcome === wanted).length;
  return {
    promises: findings.length,
    held: of('held'),
    broken: of('broken'),
    unmeasured: of('unmeasured'),
  };
}

function inWords(acts: readonly ActResult[]): string {
  const { promises, held, broken, unmeasured } = verdict(acts);
  return [
    `${held} of ${promises} promises held`,
    ...(broken > 0 ? [`${broken} BROKEN`] : []),
    ...(unmeasured > 0 ? [`${unmeasured} could not be measured here`] : []),
  ].join(', ');
}

/** A self-contained page. */
export function htmlReport(acts: readonly ActResult[], when: Date): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>NRDOT+ demo</title><style>${STYLE}</style>
<h1>NRDOT+ demo: ${inWords(acts)}</h1>
<p class="soft">Version ${escaped(VERSION)}, ${when.toISOString().slice(0, 16).replace('T', ' ')} UTC. Every figure was measured in this run, from metrics of the pipeline and ids that arrived upstream.</p>
${acts.map(section).join('\n')}
</html>
`;
}

function section({ title, story, findings, plots }: ActResult): string {
  return `<h2>${escaped(title)}</h2>
<p>${escaped(story)}</p>
<table><tr><th>Promise<th>Measured<th></tr>
${findings.map(row).join('\n')}
</table>
${plots.map(linePlot).join('\n')}`;
}

function row({ promise, measured, outcome }: Finding): string {
  return `<tr><td>${escaped(promise)}<td>${escaped(measured)}<td class="${outcome}">${outcome}</tr>`;
}

/** The report as a table for a terminal. */
export function textReport(acts: readonly ActResult[]): string {
  const findings = acts.flatMap((act) => act.findings);
  const width = Math.max(...findings.map(({ promise }) => promise.length));
  const lines = acts.flatMap((act) => [
    '',
    act.title,
    ...act.findings.map(
      ({ promise, measured, outcome }) =>
        `  ${MARKS[outcome].padEnd(10)}  ${promise.padEnd(width)}  ${measured}`,
    ),
  ]);
  return `${lines.join('\n')}\n\n${inWords(acts)}.`;
}
