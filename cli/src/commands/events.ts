import type { Events } from '@nrdot/status';
import { type Transition, timeText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { print, printable } from '../output.ts';

const LEVELS: Record<Transition['level'], string> = { info: 'info ', warn: 'warn ', error: 'ERROR' };

/** `nrdot events`: what has changed, oldest first. */
export async function eventsCommand(flags: AdminFlags & { limit: number }): Promise<void> {
  const answer = await new AdminClient(flags).get<Events>(`/api/events?limit=${flags.limit}`);
  const lines = answer.events.map(
    ({ at, level, service, message }) =>
      `${timeText(at)}  ${LEVELS[level]}  ${printable(service).padEnd(9)}  ${printable(message)}`,
  );
  print(flags, answer, lines.join('\n') || 'Nothing has changed since the pipeline was first started.');
  if (answer.problem && !flags.json)
    process.stderr.write(`Only events of the scheduler's process: ${printable(answer.problem)}.\n`);
}
