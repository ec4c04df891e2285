import { closeSync, openSync } from 'node:fs';
import { durationText, type Logger } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { RunningService } from './host.ts';

/** Beyond the deadline services get this long, all together, before they are left behind. */
const GRACE_MS = 2_500;
const EXIT_MS = 500;

/** A service that did not end in order, and why. */
export interface Unclean {
  service: string;
  message: string;
}

/**
 * Stops all services within one time: first the one that lets data in, so that the others are still there for what it holds, for at
 * most half of it; then the others at once. One that fails to stop, or hangs, does not keep the others: what it held is in
 * Redis or on disk.
 * @returns those that did not stop cleanly
 */
export async function stopTogether(
  services: readonly RunningService[],
  timeoutMs: number,
  log: Logger,
  admin?: AdminServer,
): Promise<Unclean[]> {
  admin?.drain();
  const endsAt = performance.now() + timeoutMs;
  const unclean: Unclean[] = [];
  const stop = async (service: RunningService, ms: number) => {
    try {
      await within(ms + GRACE_MS, service.stop(ms));
    } catch (error) {
      const { message } = error as Error;
      unclean.push({ service: service.name, message });
      log.error({ service: service.name, err: message }, 'did not stop cleanly');
    }
  };
  const entrance = services.filter(({ letsIn }) => letsIn);
  await Promise.all(entrance.map((service) => stop(service, timeoutMs / 2)));
  const left = Math.max(0, endsAt - performance.now());
  await Promise.all(services.filter(({ letsIn }) => !letsIn).map((service) => stop(service, left)));
  await admin?.stop();
  return unclean;
}

/** Ends the process even when something still holds on to it, such as a connection to a Redis that hangs. */
export function endSoon(): void {
  setTimeout(() => process.exit(), EXIT_MS).unref();
}

/** @throws Error when it takes longer */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${durationText(ms / 1000)}`)), ms);
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
