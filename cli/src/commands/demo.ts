import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import type { ActResult } from '../demo/finding.ts';
import { outage } from '../demo/outage.ts';
import { overload } from '../demo/overload.ts';
import { Performance } from '../demo/performance.ts';
import { htmlReport, textReport, verdict } from '../demo/report.ts';
import { storm } from '../demo/storm.ts';
import { ProgressLine } from '../progress.ts';

const ACTS = { storm, overload, outage };
const ACT_NAMES = Object.keys(ACTS) as (keyof typeof ACTS)[];

export interface DemoFlags {
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
  const names = flags.act ? [flags.act] : ACT_NAMES;
  const settings = flags.config ? (parse(readFileSync(flags.config, 'utf8')) as Record<string, unknown>) : {};
  const line = new ProgressLine();
  const stop = new AbortController();
  let interrupted = false;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      interrupted = true;
      stop.abort();
    });
  }
  const dir = mkdtempSync(join(tmpdir(), 'nrdot-demo-'));
  const play = new Performance({
    acts: names.length,
    dir,
    settings: settings ?? {},
    line,
    signal: stop.signal,
  });
  const acts: ActResult[] = [];
  try {
    for (const name of names) {
      acts.push(await ACTS[name](play));
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
  writeFileSync(page, htmlReport(acts, new Date()));
  process.stdout.write(flags.json ? `${JSON.stringify({ acts }, null, 2)}\n` : textReport(acts));
  line.say(`Report with plots: ${page}`);
  const { broken, unmeasured } = verdict(acts);
  if (broken > 0) process.exitCode = BROKEN;
  else if (unmeasured > 0) process.exitCode = UNMEASURED;
}
