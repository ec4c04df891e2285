import { setTimeout as wait } from 'node:timers/promises';
import { EVENTS_MAX, type Store } from '@nrdot/queue';
import { AdminError } from '@nrdot/service';
import type { Events, StatusBoard } from '@nrdot/status';
import type { Transition } from '@nrdot/telemetry';

interface EventSources {
  store: Pick<Store, 'events'>;
  board: Pick<StatusBoard, 'recent' | 'untold'>;
  notReady(): string | undefined;
}

const DEFAULT = 100;
const LEVELS: readonly string[] = ['info', 'warn', 'error'] satisfies Transition['level'][];
/** A running Redis answers within this time. */
const PATIENCE_MS = 2_000;

/** @throws AdminError for an invalid query */
export async function readEvents(
  { store, board, notReady }: EventSources,
  query: Record<string, string>,
): Promise<Events> {
  const { limit: asked = String(DEFAULT) } = query;
  const limit = /^\d+$/.test(asked) ? Number(asked) : 0;
  if (limit < 1 || limit > EVENTS_MAX)
    throw new AdminError(
      400,
      'bad_request',
      `limit: "${asked}"; expected a whole number from 1 to ${EVENTS_MAX}`,
    );
  let problem = notReady();
  if (problem === undefined) {
    const read = store.events(limit);
    read.catch(() => {}); // may reject after the wait has ended
    const texts = await Promise.race([read, wait(PATIENCE_MS, undefined, { ref: false })]).catch(
      () => undefined,
    );
    if (texts) {
      const kept = texts.flatMap((text) => eventOf(text) ?? []);
      return { events: [...kept, ...board.untold].sort((a, b) => a.at - b.at).slice(-limit) };
    }
    problem = 'Redis did not answer in time';
  }
  return { events: board.recent.slice(-limit), problem };
}

/** @returns undefined if it is none: anybody with access to Redis may have added it */
function eventOf(text: string): Transition | undefined {
  try {
    const event = JSON.parse(text) as Partial<Transition> | null;
    const isEvent =
      typeof event?.at === 'number' &&
      !Number.isNaN(new Date(event.at).getTime()) &&
      [event.service, event.subject, event.state, event.message].every((text) => typeof text === 'string') &&
      LEVELS.includes(event.level as string);
    return isEvent ? (event as Transition) : undefined;
  } catch {
    return undefined;
  }
}
