import type { ConfigChange } from '@nrdot/config';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { printable } from '../printable.ts';

/** `nrdot reload`: makes a running service read its file again, and prints the changes. */
export async function reloadCommand(flags: AdminFlags & { json?: boolean }): Promise<void> {
  const { changes } = await new AdminClient(flags).post<{ changes: ConfigChange[] }>('/api/config/reload');
  if (flags.json) process.stdout.write(`${JSON.stringify({ changes }, null, 2)}\n`);
  else if (changes.length === 0)
    process.stdout.write('The configuration was read again; nothing has changed.\n');
  else
    for (const { path, from, to } of changes)
      process.stdout.write(`${printable(`${path}: ${from} → ${to}`)}\n`);
}
