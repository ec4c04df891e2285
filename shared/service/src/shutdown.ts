import { closeSync, openSync } from 'node:fs';
import { durationText, type Logger } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { RunningService } from './host.ts';

/** Time for all services together after the deadline, before they are abandoned. */
const GRACE_MS = 2_500;
const EXIT_MS = 500;

/** A service that did not stop gracefully, and why. */
export interface Unclean {
  service: string;
  message: string;
}

/**
 * Stops all services within a time limit: first the one that receives data, for at most half of it, so that the others can
 * process what it holds; then the others at once. A service that fails or hangs does not block the others: its data is in Redis
 * or on disk.
 * @returns those that did not stop gracefully
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

/** Exits even if something keeps the process alive, such as a connection to a Redis that hangs. */
export function endSoon(): void {
  setTimeout(() => process.exit(), EXIT_MS).unref();
}

/** @throws Error after the timeout */
async function within(ms: number, work: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const message = `it took longer than ${durationText(ms / 1000)}`;
  const timer = setTimeout(() => late.reject(new Error(message)), ms);
  await Promise.race([work, late.promise]).finally(() => clearTimeout(timer));
}

/**
 * Resolves at SIGTERM or SIGINT. A second signal exits at once with the status that a shell expects; unfinished work is in
 * Redis or on disk, and the next start resumes it.
 * @param reload called at SIGHUP, unless that means that the terminal is gone, which is a request to stop
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
