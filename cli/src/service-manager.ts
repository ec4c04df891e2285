import { execFile } from 'node:child_process';
import type { Logger } from '@nrdot/telemetry';

const TIMEOUT_MS = 10_000;

/**
 * Tells systemd that what it started (Type=notify) has started: it takes requests. Node has no datagram sockets of Unix, so
 * systemd's own program says it; the unit lets that speak for it by NotifyAccess=all.
 */
export function tellServiceManager(log: Pick<Logger, 'warn'>): void {
  if (!process.env.NOTIFY_SOCKET) return;
  execFile('systemd-notify', ['--ready'], { timeout: TIMEOUT_MS }, (error) => {
    if (error) log.warn({ err: error.message }, 'systemd could not be told that it has started');
  });
}
