import type { ConfigChange } from '@nrdot/config';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { print, printable } from '../output.ts';

/** `nrdot reload`: makes a running service read its file again, and prints the changes. */
export async function reloadCommand(flags: AdminFlags): Promise<void> {
  const { changes } = await new AdminClient(flags).post<{ changes: ConfigChange[] }>('/api/config/reload');
  const lines = changes.map(({ path, from, to }) => printable(`${path}: ${from} → ${to}`));
  print(flags, { changes }, lines.join('\n') || 'The configuration was read again; nothing has changed.');
}
