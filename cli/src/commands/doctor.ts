import type { Damage, Diagnosis } from '@nrdot/queue';
import { leftOver } from '@nrdot/queue/damage';
import { countText, durationText, numberText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { print, printable } from '../output.ts';
import { EXIT_CODES } from './status.ts';

/** Timeout: a queue of 200,000 jobs is read in slices, and the accounting is watched until batches in flight have arrived. */
const EXAMINING_MS = 10 * 60_000;

/** `nrdot doctor`: compares what Redis holds with its counts; the exit code tells whether something is left to do. */
export async function doctorCommand(flags: AdminFlags & { repair?: boolean }): Promise<void> {
  const client = new AdminClient(flags);
  const diagnosis = flags.repair
    ? await client.post<Diagnosis>('/api/doctor', undefined, EXAMINING_MS)
    : await client.get<Diagnosis>('/api/doctor', EXAMINING_MS);
  print(flags, diagnosis, doctorText(diagnosis));
  process.exitCode = EXIT_CODES[leftOver(diagnosis.damage)];
}

function doctorText({ jobs, payloads, tookMs, repair, damage, difference }: Diagnosis): string {
  const looked = `${countText(jobs, 'job')} and ${countText(payloads, 'payload')} in ${durationText(tookMs / 1000)}`;
  const books =
    difference === undefined
      ? []
      : [difference === 0 ? 'The books balance.' : `The books are off by ${numberText(difference)} items.`];
  if (damage.length === 0) return [`Nothing is off: ${looked}.`, ...books].join(' ');
  const left = damage.filter(({ count, mended }) => mended < count);
  const end = repair
    ? left.length === 0
      ? 'Everything was repaired.'
      : `${countText(left.length, 'finding')} left: see above.`
    : left.every(({ level }) => level === 'note')
      ? 'No action is needed.'
      : '"nrdot doctor --repair" repairs it while the pipeline runs.';
  return [
    ...damage.map((one) => damageText(one, repair)),
    `Examined ${looked}. ${[...books, end].join(' ')}`,
  ].join('\n\n');
}

function damageText({ kind, level, text, todo, count, examples, mended }: Damage, repair: boolean): string {
  const state =
    repair && mended > 0 ? (mended === count ? 'repaired' : `${mended} of ${count} repaired`) : level;
  const more = count > examples.length ? `, and ${numberText(count - examples.length)} more` : '';
  return [
    printable(`${kind} (${state}): ${text}`),
    ...examples.map((name) => `    ${printable(name).slice(0, 200)}`),
    ...(more ? [`    ${more.slice(2)}`] : []),
    ...(todo && mended < count ? [`  → ${printable(todo)}`] : []),
  ].join('\n');
}
