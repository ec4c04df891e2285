import { CLASSES } from '@nrdot/queue';
import type { PipelineStatus } from './pipeline-status.ts';

/** One thing a person on call should know, in a whole sentence. */
export interface Finding {
  /** `ok`: all is well. `note`: it works at it. `warning`: look soon. `fault`: look now. */
  level: 'ok' | 'note' | 'warning' | 'fault';
  /** Short and fixed, for programs, such as `breaker_open`. */
  code: string;
  text: string;
  /** What to do or to expect, when there is something to say. */
  more?: string;
}

const LEVELS = ['fault', 'warning', 'note', 'ok'] as const;
const LATE_MS = 6_000;
const DIFFERS_MS = 10_000;

/**
 * What there is to say about a pipeline: where data waits and why, and whether anything was lost. The gravest first;
 * when there is nothing, that all is well.
 */
export function findingsOf(status: Omit<PipelineStatus, 'findings'>): Finding[] {
  const all = [
    ...redis(status),
    ...missing(status),
    ...breaker(status),
    ...disk(status),
    ...queue(status),
    ...losses(status),
    ...limiter(status),
  ];
  all.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
  if (all.length > 0) return all;
  return [{ level: 'ok', code: 'ok', text: 'Everything flows. Nothing waits, nothing is lost.' }];
}

type Known = Omit<PipelineStatus, 'findings'>;

function redis({ redis: { problem, usedBytes = 0, limitBytes = 0 } }: Known): Finding[] {
  if (problem) {
    const more =
      'Receivers hand what they take to the dlq meanwhile; where they cannot, clients get 503 and keep it.';
    return [{ level: 'fault', code: 'redis_away', text: `Redis cannot be used: ${problem}.`, more }];
  }
  if (limitBytes === 0 || usedBytes < 0.95 * limitBytes) return [];
  const text = `Redis uses ${percent(usedBytes / limitBytes)} of its memory.`;
  return [{ level: 'warning', code: 'redis_memory', text, more: 'What it has no room for goes to disk.' }];
}

function missing({ services, redis: { problem } }: Known): Finding[] {
  const late = services.filter(({ ageMs }) => ageMs > LATE_MS);
  const found: Finding[] = late.map(({ service, instance, ageMs }) => ({
    level: 'warning',
    code: 'service_silent',
    text: `The ${service} at ${instance} has said nothing for ${Math.round(ageMs / 1000)} s.`,
  }));
  if (problem) return found; // then nobody could say so
  for (const service of ['receiver', 'exporter', 'dlq'] as const) {
    if (services.some((line) => line.service === service)) continue;
    const consequence = {
      receiver: 'Nothing comes in.',
      exporter: 'Nothing goes out: batches wait in Redis.',
      dlq: 'Nothing goes to disk: what spills waits in Redis.',
    }[service];
    found.push({ level: 'fault', code: `no_${service}`, text: `No ${service} is running. ${consequence}` });
  }
  return found;
}

function breaker({ breaker: state, exporter, at }: Known): Finding[] {
  if (!state || state.state === 'closed') return [];
  const said =
    exporter?.lastProblem && at - exporter.lastProblem.at < 120_000 ? exporter.lastProblem.message : '';
  const why = {
    failures: 'the upstream fails',
    quota: 'the upstream throttles (429)',
    auth: 'the upstream refuses the key (401 or 403)',
  }[state.reason];
  const text = `Delivery is paused: ${why ?? state.reason}${said ? ` — ${said}` : ''}.`;
  const more =
    state.state === 'half_open'
      ? 'A single batch is being tried now. Nothing is lost: what waits is on disk and in Redis.'
      : `Nothing is lost: what arrives goes to disk and comes back by itself. Next try in ${duration(state.retryAtMs - at)}.`;
  return [
    { level: state.reason === 'auth' ? 'fault' : 'warning', code: `breaker_${state.state}`, text, more },
  ];
}

function disk({ dlq, breaker: state, at }: Known): Finding[] {
  if (!dlq) return [];
  const found: Finding[] = [];
  if (dlq.state !== 'ok') {
    const text = `The disk takes nothing: ${dlq.fault ?? dlq.state}.`;
    found.push({ level: 'fault', code: 'dlq_refuses', text, more: 'What spills waits in Redis.' });
  } else if (dlq.diskBytes > 0.8 * dlq.capacityBytes) {
    const text = `The dlq is ${percent(dlq.diskBytes / dlq.capacityBytes)} full.`;
    found.push({
      level: 'warning',
      code: 'dlq_filling',
      text,
      more: 'dlq.capacity, or a faster replay_rate.',
    });
  }
  if (dlq.quarantinedBytes > 0 || dlq.segments.some((segment) => segment.state === 'damaged')) {
    const more = 'Nothing of it is deleted: "nrdot dlq verify" names what and where.';
    found.push({ level: 'warning', code: 'dlq_damaged', text: 'Something on disk cannot be read.', more });
  }
  const waiting = CLASSES.reduce((sum, c) => sum + dlq.areas[c].items, 0);
  if (waiting > 0) {
    const oldest = Math.min(
      ...CLASSES.map((c) => dlq.areas[c].oldestReceivedAt || Number.POSITIVE_INFINITY),
      at,
    );
    const text = `${count(waiting)} items are on disk, the oldest for ${duration(at - oldest)}.`;
    const held = state && state.state !== 'closed';
    found.push(
      dlq.replay.paused
        ? { level: 'warning', code: 'replay_paused', text: `${text} Replay is paused by hand.` }
        : {
            level: 'note',
            code: 'on_disk',
            text,
            more: held
              ? `Then they come back, in about ${duration(dlq.replay.drainSeconds * 1_000)}.`
              : `They are coming back: about ${duration(dlq.replay.drainSeconds * 1_000)} left.`,
          },
    );
  }
  if (dlq.areas.rejected.items > 0) {
    const text = `The upstream refused ${count(dlq.areas.rejected.items)} items for good; they are kept on disk.`;
    found.push({
      level: 'note',
      code: 'rejected',
      text,
      more: '"nrdot dlq ls --rejected" tells why.',
    });
  }
  return found;
}

function queue({ queue: state, rates }: Known): Finding[] {
  const found: Finding[] = [];
  const spilling = state ? CLASSES.filter((c) => state.classes[c].spills) : [];
  if (state && spilling.length > 0) {
    const text = `The queue is ${percent(state.fill)} full: new ${spilling.join(', ')} batches go to disk.`;
    found.push({ level: 'warning', code: 'spilling', text });
  }
  if (rates.refusedRequests > 0) {
    const text = `Receivers refuse ${rates.refusedRequests.toFixed(1)} requests per second.`;
    found.push({
      level: 'warning',
      code: 'refusing',
      text,
      more: 'The client keeps what was answered with 503.',
    });
  }
  return found;
}

function losses({ books, dropped, differenceMs = 0 }: Known): Finding[] {
  const found: Finding[] = [];
  if (books && books.dropped > 0) {
    const reasons = Object.entries(dropped ?? {}).map(([reason, items]) => `${count(items)} ${reason}`);
    const text = `${count(books.dropped)} accepted items were dropped: ${reasons.join(', ')}.`;
    found.push({ level: 'warning', code: 'dropped', text });
  }
  // What is between two places changes from moment to moment; what is lost stays.
  if (books && books.difference !== 0 && differenceMs >= DIFFERS_MS) {
    const text = `The books do not balance: ${count(books.difference)} items are nowhere.`;
    found.push({
      level: 'fault',
      code: 'books_differ',
      text,
      more: 'docs/operations.md, NrdotBooksDoNotBalance.',
    });
  }
  return found;
}

function limiter({ limiter: state, rates }: Known): Finding[] {
  if (!state || rates.limiterDropped === 0) return [];
  const text = `The limiter drops ${count(rates.limiterDropped)} data points per second: ${count(state.keysUsed)} of ${count(state.maxKeys)} key-sets are in use.`;
  return [{ level: 'warning', code: 'limiter_drops', text }];
}

function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7_200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3_600)} h` : `${Math.round(s / 86_400)} d`;
}
