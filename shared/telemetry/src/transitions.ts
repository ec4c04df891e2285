import type { Logger } from './log.ts';
import { durationText } from './words.ts';

/** The normal state, in which every subject begins. */
export const WELL = 'well';

/** A change of a subject's state, as shown in the log, by `nrdot events` and on the console. */
export interface Transition {
  /** Unix ms. */
  at: number;
  service: string;
  level: 'info' | 'warn' | 'error';
  /** What changed: short and stable, for programs, such as `redis`, `upstream` or `upstream:traces`. */
  subject: string;
  /** The new state: short, for programs; `well` for the normal one. */
  state: string;
  /** A full sentence. */
  message: string;
  /** How long the subject was not well, in ms; absent when it leaves the normal state. */
  lastedMs?: number;
  /** Number of changes since the last line that were suppressed. */
  untold?: number;
}

export interface Change {
  /** Default: `info` for `well`, else `warn`. */
  level?: Transition['level'];
  /** Called with how long the subject was not well, as text (`42 s`) and in ms. */
  message: string | ((lasted: string, lastedMs: number) => string);
}

export interface TransitionOptions {
  log: Logger;
  service: string;
  /** Also called with every logged line, for the event history. */
  record?: ((transition: Transition) => void) | undefined;
  /** Unix ms. */
  now?: () => number;
  /** Ms that only move forward, whatever the clock does: for durations. Default: `now` if that is given. */
  steadyNow?: () => number;
}

/** Maximum lines per subject and minute; further changes are summed up in one line at the end of the minute. */
const LINES_MAX = 6;
const WINDOW_MS = 60_000;
/** Subjects are few and fixed; with more than this the caller is wrong, and the oldest are evicted. */
const SUBJECTS_MAX = 500;

interface Subject {
  state: string;
  /** When it stopped being well; 0 while it is. */
  unwellSince: number;
  windowAt: number;
  lines: number;
  untold: number;
  pending: Transition | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Reports changes of state, once each, to the log of a service and to the event history. Callers report a state as often as
 * they like; a line is logged when it differs from the last one:
 *
 *     host.transitions.to('redis', 'away', { message: 'Redis at 127.0.0.1:6379 is away: connection refused' });
 *     host.transitions.to('redis', WELL, { message: (lasted) => `Redis is back after ${lasted}` });
 *
 * A flapping subject is reported with a count instead of a line each time.
 */
export class Transitions {
  readonly #o: TransitionOptions;
  readonly #now: () => number;
  readonly #steadyNow: () => number;
  readonly #subjects = new Map<string, Subject>();

  constructor(options: TransitionOptions) {
    this.#o = options;
    this.#now = options.now ?? Date.now;
    this.#steadyNow =
      options.steadyNow ?? options.now ?? (() => Math.floor(performance.timeOrigin + performance.now()));
  }

  /** Transitions for another service of the process: with its name and its own subjects, in the same history. */
  of(log: Logger, service: string): Transitions {
    return new Transitions({ ...this.#o, log, service });
  }

  /** The last reported state of a subject. */
  stateOf(subject: string): string {
    return this.#subjects.get(subject)?.state ?? WELL;
  }

  /** Reports the state of a subject. */
  to(subject: string, state: string, { level, message }: Change): void {
    const known = this.#subjects.get(subject) ?? this.#add(subject);
    if (known.state === state) return;
    const now = this.#steadyNow();
    const lastedMs = known.unwellSince === 0 ? undefined : now - known.unwellSince;
    if (known.state === WELL) known.unwellSince = now;
    if (state === WELL) known.unwellSince = 0;
    known.state = state;
    this.#say(known, {
      at: this.#now(),
      service: this.#o.service,
      level: level ?? (state === WELL ? 'info' : 'warn'),
      subject,
      state,
      message:
        typeof message === 'string'
          ? message
          : message(durationText(Math.round((lastedMs ?? 0) / 1000)), lastedMs ?? 0),
      ...(lastedMs === undefined ? {} : { lastedMs }),
    });
  }

  /** Reports an event rather than a lasting state, such as an applied configuration. */
  happened(subject: string, message: string, level: Transition['level'] = 'info'): void {
    const { service } = this.#o;
    const known = this.#subjects.get(subject) ?? this.#add(subject);
    this.#say(known, { at: this.#now(), service, level, subject, state: 'happened', message });
  }

  #say(known: Subject, transition: Transition): void {
    const now = this.#steadyNow();
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
    Object.assign(subject, { windowAt: this.#steadyNow(), lines: 1, untold: 0 });
    subject.pending = subject.timer = undefined;
    if (!pending) return;
    const changes = `${untold} changes in ${durationText(WINDOW_MS / 1000)}, this is the last one`;
    this.#tell({
      ...pending,
      untold,
      message: untold > 1 ? `${pending.message} (${changes})` : pending.message,
    });
  }

  #tell(transition: Transition): void {
    const { level, message, subject, state, lastedMs, untold } = transition;
    this.#o.log[level]({ event: subject, state, lastedMs, untold }, message);
    this.#o.record?.(transition);
  }
}
