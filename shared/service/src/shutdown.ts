import type { Logger } from '@nrdot/telemetry';
import type { AdminServer } from './admin.ts';
import type { RunningService } from './host.ts';

/** Stops services one after another, first the one that lets data in. One that fails to stop does not keep the others. */
export async function stopInOrder(
  services: readonly RunningService[],
  timeoutMs: number,
  log: Logger,
  admin?: AdminServer,
): Promise<void> {
  admin?.drain();
  for (const service of services) {
    try {
      await service.stop(timeoutMs);
    } catch (error) {
      log.error({ service: service.name, err: (error as Error).message }, 'did not stop cleanly');
    }
  }
  await admin?.stop();
}

/**
 * Resolves at SIGTERM or SIGINT. A second signal ends the process at once with the status a shell expects; what is
 * not done then is in Redis or on disk, and the next start takes it up.
 */
export function untilSignal(log: Logger): Promise<NodeJS.Signals> {
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
  });
}
