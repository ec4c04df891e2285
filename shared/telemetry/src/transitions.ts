import type { Logger } from './log.ts';
import { durationText } from './words.ts';

/** The state in which nothing is to be said. Every subject begins in it. */
export const WELL = 'well';

/** One change of the state of something, as the log, `nrdot events` and the console have it. */
export interface Transition {
  /** Unix ms. */
  at: number;
  service: string;
  level: 'info' | 'warn' | 'error';
  /** What changed: short and fixed, for programs, such as `redis`, `upstream` or `upstream:traces`. */
  subject: string;
  /** What it is now: short, for programs; `well` when nothing is the matter. */
  state: string;
  /** A whole sentence. */
  message: string;
  /** How long the subject has not been well, in ms; absent in the first line of a trouble. */
  lastedMs?: number;
  /** Changes since the line before this one that were left out. */
  untold?: number;
}

export interface Change {
  /** Default: `info` for `well`, else `warn`. */
  level?: Transition['level'];
  /** Gets how long the subject has not been well, in words (`42 s`) and in ms. */
  message: string | ((lasted: string, lastedMs: number) => string);
}

export interface TransitionOptions {
  log: Logger;
  service: string;
  /** Also gets every line that is told: the history of events. */
  record?: ((transition: Transition) => void) | undefined;
  now?: () => number;
}

/** Of one subject so many lines are told in a minute; then one, at its end, for all that changed meanwhile. */
const LINES_MAX = 6;
const WINDOW_MS = 60_000;
/** Subjects are few and fixed; more than this is a fault of the caller, and the oldest go. */
const SUBJECTS_MAX = 500;

interface Subject {
  state: string;
  /** When it was last well; 0 while it is. */
  unwellSince: number;
  windowAt: number;
  lines: number;
  untold: number;
  pending: Transition | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Tells changes of state, once each, in the log of a service and in the history of events. Whoever knows the state of something
 * says it as often as it likes; a line comes when it is another than before:
 *
 *     host.transitions.to('redis', 'away', { message: 'Redis at 127.0.0.1:6379 is away: connection refused' });
 *     host.transitions.to('redis', WELL, { message: (lasted) => `Redis is back after ${lasted}` });
 *
 * One that flaps is told with a count instead of a line each time.
 */
export class Transitions {
  readonly #o: TransitionOptions;
  readonly #now: () => number;
  readonly #subjects = new Map<string, Subject>();

  constructor(options: TransitionOptions) {
    this.#o = options;
    this.#now = options.now ?? Date.now;
  }

  /** The same for another service of the process: its name on each line, its own subjects, the same history. */
  of(log: Logger, service: string): Transitions {
    return new Transitions({ ...this.#o, log, service });
  }

  /** What the subject was last said to be. */
  stateOf(subject: string): string {
    return this.#subjects.get(subject)?.state ?? WELL;
  }

  /** Says what a subject is now. */
  to(subject: string, state: string, { level, message }: Change): void {
    const known = this.#subjects.get(subject) ?? this.#add(subject);
    if (known.state === state) return;
    const now = this.#now();
    const lastedMs = known.unwellSince === 0 ? undefined : now - known.unwellSince;
    if (known.state === WELL) known.unwellSince = now;
    if (state === WELL) known.unwellSince = 0;
    known.state = state;
    const transition: Transition = {
      at: now,
      service: this.#o.service,
      level: level ?? (state === WELL ? 'info' : 'warn'),
      subject,
      state,
      message:
        typeof message === 'string'
          ? message
          : message(durationText(Math.round((lastedMs ?? 0) / 1000)), lastedMs ?? 0),
      ...(lastedMs === undefined ? {} : { lastedMs }),
    };
    this.#say(known, transition);
  }

  /** Something that happened, rather than a state that lasts, such as a configuration that was applied. */
  happened(subject: string, message: string, level: Transition['level'] = 'info'): void {
    const { service } = this.#o;
    const known = this.#subjects.get(subject) ?? this.#add(subject);
    this.#say(known, { at: this.#now(), service, level, subject, state: 'happened', message });
  }

  #say(known: Subject, transition: Transition): void {
    const { at: now } = transition;
    if (now - known.windowAt >= WINDOW_MS) Object.assign(known, { windowAt: now, lines: 0 });
    if (known.lines < LINES_MAX) {
      known.lines++;
      this.#tell(transition);
      return;
    }
    known.untold++;
    known.pending = transition;
    known.timer ??= setTimeout(() => this.#catchUp(known), known.windowAt + WINDOW_MS - now).unref();
  }

  #add(subject: string): Subject {
    if (this.#subjects.size >= SUBJECTS_MAX) {
      const [oldest] = this.#subjects.keys();
      clearTimeout(this.#subjects.get(oldest!)?.timer);
      this.#subjects.delete(oldest!);
    }
    const added: Subject = {
      ...{ state: WELL, unwellSince: 0, windowAt: Number.NEGATIVE_INFINITY, lines: 0, untold: 0 },
      ...{ pending: undefined, timer: undefined },
    };
    this.#subjects.set(subject, added);
    return added;
  }

  #catchUp(subject: Subject): void {
    const { pending, untold } = subject;
    Object.assign(subject, {
      windowAt: this.#now(),
      lines: 1,
      untold: 0,
      pending: undefined,
      timer: undefined,
    });
    if (!pending) return;
    const changes = `${untold} changes in ${durationText(WINDOW_MS / 1000)}, of which this is the last`;
    this.#tell({
      ...pending,
      untold,
      message: untold > 1 ? `${pending.message} (${changes})` : pending.message,
    });
  }

  #tell(transition: Transition): void {
    const { level, message, subject, state, lastedMs, untold } = transition;
    this.#o.log[level](
      {
        event: subject,
        state,
        ...(lastedMs === undefined ? {} : { lastedMs }),
        ...(untold === undefined ? {} : { untold }),
      },
      message,
    );
    this.#o.record?.(transition);
  }
}
