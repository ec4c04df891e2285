import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import type { ActResult } from '../demo/finding.ts';
import { outage } from '../demo/outage.ts';
import { overload } from '../demo/overload.ts';
import { startPerformance } from '../demo/performance.ts';
import { htmlReport, textReport, verdict } from '../demo/report.ts';
import { storm } from '../demo/storm.ts';
import { print } from '../output.ts';
import { ProgressLine } from '../progress.ts';

const ACTS = { storm, overload, outage };

interface DemoFlags {
  act?: keyof typeof ACTS;
  config?: string;
  report: string;
  json?: boolean;
}

/** Exit codes other than 0, which means that every promise held. */
const BROKEN = 1;
const UNMEASURED = 3;
const INTERRUPTED = 130;

/** `nrdot demo`: three acts on this machine, a verdict, and a report. */
export async function demoCommand(flags: DemoFlags): Promise<void> {
  const acts = flags.act ? [ACTS[flags.act]] : Object.values(ACTS);
  const settings = flags.config ? (parse(readFileSync(flags.config, 'utf8')) as Record<string, unknown>) : {};
  const line = new ProgressLine();
  const stop = new AbortController();
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    stop.abort();
  };
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, interrupt);
  const dir = mkdtempSync(join(tmpdir(), 'nrdot-demo-'));
  const play = startPerformance(acts.length, dir, settings ?? {}, line, stop.signal);
  const results: ActResult[] = [];
  try {
    for (const act of acts) {
      results.push(await act(play));
      stop.signal.throwIfAborted();
    }
  } catch (error) {
    if (!interrupted) throw error;
    line.say('\nStopped.');
    process.exitCode = INTERRUPTED;
    return;
  } finally {
    stop.abort(); // otherwise a running load would keep the process alive
    line.done();
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  }
  const page = resolve(flags.report);
  writeFileSync(page, htmlReport(results, new Date()));
  print(flags, { acts: results }, textReport(results));
  line.say(`Report with plots: ${page}`);
  const { broken, unmeasured } = verdict(results);
  if (broken > 0) process.exitCode = BROKEN;
  else if (unmeasured > 0) process.exitCode = UNMEASURED;
}
