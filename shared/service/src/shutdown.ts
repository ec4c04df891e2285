import { closeSync, openSync } from 'node:fs';
import type { Logger } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { RunningService } from './host.ts';

/** Beyond its own time a service gets this long before it is left behind. */
const GRACE_MS = 2_500;
const EXIT_MS = 500;

/**
 * Stops services one after another, first the one that lets data in. One that fails to stop, or hangs, does not keep
 * the others: what it held is in Redis or on disk.
 */
export async function stopInOrder(
  services: readonly RunningService[],
  timeoutMs: number,
  log: Logger,
  admin?: AdminServer,
): Promise<void> {
  admin?.drain();
  for (const service of services) {
    try {
      await within(timeoutMs + GRACE_MS, service.stop(timeoutMs));
    } catch (error) {
      log.error({ service: service.name, err: (error as Error).message }, 'did not stop cleanly');
    }
  }
  await admin?.stop();
}

/** Ends the process even when something still holds on to it, such as a connection to a Redis that hangs. */
export function endSoon(): void {
  setTimeout(() => process.exit(), EXIT_MS).unref();
}

/** @throws Error when it takes longer */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${ms / 1000} s`)), ms);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Resolves at SIGTERM or SIGINT. A second signal ends the process at once with the status a shell expects; what is
 * not done then is in Redis or on disk, and the next start takes it up.
 * @param reload what SIGHUP asks for, unless it says that the terminal is gone: that is a wish to stop
 */
export function untilSignal(log: Logger, reload?: () => void): Promise<NodeJS.Signals> {
  const onTerminal = process.stdin.isTTY;
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (asked) {
          log.warn('asked to stop again: stopping without draining');
          process.exit(signal === 'SIGINT' ? 130 : 143);
        }
        asked = true;
        resolve(signal);
      });
    }
    if (!reload) return;
    process.on('SIGHUP', () => {
      if (!onTerminal || hasTerminal()) reload();
      else resolve('SIGHUP');
    });
  });
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
