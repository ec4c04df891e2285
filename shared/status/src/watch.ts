import { heldOf } from '@nrdot/queue';
import { alignedInterval, oneRun, type Transitions, WELL } from '@nrdot/telemetry';
import type { Finding, FindingCode } from './findings.ts';
import type { PipelineStatus } from './pipeline-status.ts';

/** A condition that is well or not: the findings that belong to it, and the message when it is well again. */
interface Subject {
  codes: readonly FindingCode[];
  /** A change of this value is reported as another state. Default: the code. */
  state?(finding: Finding, status: PipelineStatus): string;
  over(lasted: string, status: PipelineStatus): string;
}

/**
 * The state of the disk (full, failing) and of each connection to Redis is reported by its owner; all others are reported here,
 * once for the whole pipeline.
 */
const SUBJECTS: Readonly<Record<string, Subject>> = {
  upstream: {
    codes: ['breaker_open', 'breaker_half_open'],
    state: (_, { breakers = [] }) => {
      const reasons = heldOf(breakers).held.map(({ reason }) => reason);
      return [...new Set(reasons)].sort().join(' ') || 'held';
    },
    over: (lasted, status) =>
      `The upstream accepts data again after ${lasted}. ${status.summary.data} ${status.summary.back}`,
  },
  redis: {
    codes: ['redis_away'],
    over: (lasted, { summary }) => `Redis can be used again after ${lasted}. ${summary.data}`,
  },
  spill: {
    codes: ['spilling'],
    over: (lasted) => `The queue has room again after ${lasted}: new arrivals stay in Redis.`,
  },
  replay: {
    codes: ['replay_paused', 'on_disk'],
    over: (lasted) =>
      `The disk is empty after ${lasted}: all data that waited there is in flight or delivered.`,
  },
  rejected: {
    codes: ['all_rejected', 'rejecting'],
    over: (lasted) =>
      `The upstream has rejected nothing for a minute; before that, it rejected data for ${lasted}.`,
  },
  dropped: {
    codes: ['dropping'],
    over: (lasted, { summary }) =>
      `Nothing has been dropped for a minute; before that, data was dropped for ${lasted}. ${summary.lost}`,
  },
  books: {
    codes: ['books_differ'],
    over: (lasted) => `The books balance again after ${lasted}.`,
  },
  limiter: {
    codes: ['limiter_drops'],
    over: (lasted) => `The limiter has stopped dropping data points after ${lasted}.`,
  },
  daily_keys: {
    codes: ['daily_keys'],
    // Report when further metrics have used up their series, and when one is forecast to.
    state: (_, { limiter }) => {
      const { limit = 0, metrics = [] } = limiter?.daily ?? {};
      return metrics.some(({ keys }) => keys >= limit) ? 'used up' : 'near';
    },
    over: () => 'No metric is close to its limit of series for this UTC day any more.',
  },
  account_limits: {
    codes: ['account_limits'],
    over: (lasted) => `Traffic is well below the limits of the account again after ${lasted}.`,
  },
  refusals: {
    codes: ['refusing'],
    over: (lasted) => `Receivers have stopped refusing requests after ${lasted}.`,
  },
  redis_memory: {
    codes: ['redis_memory'],
    over: (lasted) => `Redis has free memory again after ${lasted}.`,
  },
  room: { codes: ['dlq_filling'], over: (lasted) => `The dlq has room again after ${lasted}.` },
  expiring: {
    codes: ['expiring'],
    over: (lasted) => `No data on disk is about to expire any more, after ${lasted}.`,
  },
  damage: { codes: ['dlq_damaged'], over: () => 'There is no damaged data on disk any more.' },
  ...Object.fromEntries(
    (['receiver', 'exporter', 'dlq'] as const).map((service): [string, Subject] => [
      `services:${service}`,
      {
        codes: [`no_${service}`],
        over: (lasted) =>
          `${service === 'exporter' ? 'An' : 'A'} ${service} is running again, after ${lasted} without one.`,
      },
    ]),
  ),
};

const OF_THE_DISK = new Set(['replay', 'room', 'expiring', 'damage']);

/** Other processes take a moment to report after a start. */
const HEARD_AFTER_MS = 15_000;

interface WatchDeps {
  read(): Promise<PipelineStatus>;
  transitions: Transitions;
  /** Whether this scheduler reports; of several only one does. */
  tells(): Promise<boolean>;
  everyMs?: number;
}

/** Reads the status every two seconds and reports what has changed to the log and the event history. */
export class Watch {
  readonly #d: WatchDeps;
  readonly #endTimer: () => void;
  readonly #startedAt = performance.now();

  constructor(deps: WatchDeps) {
    this.#d = deps;
    this.#endTimer = alignedInterval(() => void this.check(), deps.everyMs ?? 2_000);
  }

  stop(): void {
    this.#endTimer();
  }

  readonly check = oneRun(async () => {
    try {
      const status = await this.#d.read();
      if (status.redis.problem !== undefined || (await this.#d.tells())) this.#tell(status);
    } catch {
      // On an error the state is unknown.
    }
  });

  #tell(status: PipelineStatus): void {
    const { transitions } = this.#d;
    for (const [subject, { codes, state, over }] of Object.entries(SUBJECTS)) {
      const all = status.findings.filter(({ code }) => codes.includes(code));
      const [found] = all;
      if (!found) {
        // While Redis is away, or no dlq has reported since, conditions that only they know are not well again.
        const unknown =
          status.redis.problem !== undefined ||
          ((status.diskIsOld || !status.dlq) && OF_THE_DISK.has(subject)) ||
          (status.unheard && subject.startsWith('services:'));
        if (!unknown) transitions.to(subject, WELL, { message: (lasted) => over(lasted, status) });
        continue;
      }
      if (subject.startsWith('services:') && performance.now() - this.#startedAt < HEARD_AFTER_MS) continue;
      const { level, code } = found;
      transitions.to(subject, state?.(found, status) ?? code, {
        level: level === 'fault' ? 'error' : level === 'warning' ? 'warn' : 'info',
        message: all.map(({ text, more }) => (more ? `${text} ${more}` : text)).join(' '),
      });
    }
  }
}
