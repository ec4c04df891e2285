import { execFile } from 'node:child_process';
import type { Logger } from '@nrdot/telemetry';

const TIMEOUT_MS = 10_000;

/**
 * Notifies systemd that a service with Type=notify accepts requests. Node has no Unix datagram sockets, so systemd's own
 * program does it; the unit permits that with NotifyAccess=all.
 */
export function tellServiceManager(log: Pick<Logger, 'warn'>): void {
  if (!process.env.NOTIFY_SOCKET) return;
  execFile('systemd-notify', ['--ready'], { timeout: TIMEOUT_MS }, (error) => {
    if (error) log.warn({ err: error.message }, 'could not notify systemd of the start');
  });
}
