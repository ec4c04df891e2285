import type { Finding, PipelineStatus } from '@nrdot/status';
import { AdminClient, type AdminFlags, NothingAnswers } from '../admin-client.ts';
import { print } from '../output.ts';
import { statusLines } from '../status-view.ts';
import { usesColour } from '../terminal.ts';

/** By the most severe finding. 1 and 2 are those of every command: nothing answers, and an invalid configuration. */
export const EXIT_CODES: Record<Finding['level'], number> = { ok: 0, note: 0, warning: 3, fault: 4 };

const NO_SCHEDULER =
  'If the services run separately, the scheduler answers for all of them: "nrdot scheduler" starts one. Without it, receivers still accept data. The data waits in Redis, spills to disk when Redis is full, and is delivered once a scheduler runs; nothing is lost.';

/** `nrdot status`: where the data is, findings and services on one screen; the exit code tells whether all is well. */
export async function statusCommand(flags: AdminFlags): Promise<void> {
  const client = new AdminClient(flags);
  const status = await client.get<PipelineStatus>('/api/status').catch((error: Error) => {
    throw error instanceof NothingAnswers ? new Error(`${error.message} ${NO_SCHEDULER}`) : error;
  });
  const { columns } = process.stdout;
  const lines = statusLines(status, { url: client.url, colour: usesColour(process.stdout), columns });
  print(flags, status, lines.join('\n'));
  process.exitCode = Math.max(...status.findings.map(({ level }) => EXIT_CODES[level]));
}
