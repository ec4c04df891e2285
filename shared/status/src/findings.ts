import type { Accounting, Breaker } from '@nrdot/queue';
import { heldOf } from '@nrdot/queue/breaker-state';
import { CLASSES } from '@nrdot/queue/priority-class';
import { countText, durationText, numberText, percentText, sizeText } from '@nrdot/telemetry';
import { limitFindings } from './limit-findings.ts';
import type { PipelineStatus } from './pipeline-status.ts';
import type { ServiceName } from './process-status.ts';

export interface Finding {
  /** `ok`: all is well. `note`: nothing to do. `warning`: look soon. `fault`: look now. */
  level: 'ok' | 'note' | 'warning' | 'fault';
  /** Short and stable, for programs, such as `breaker_open`; docs/operations.md has a section of this name. */
  code: FindingCode;
  text: string;
  /** Where the data is meanwhile, and what happens next. */
  more?: string;
  todo?: string;
}

export const FINDING_CODES = [
  ...(['ok', 'redis_away', 'redis_memory', 'redis_lost', 'redis_older'] as const),
  ...(['service_silent', 'no_receiver', 'no_exporter', 'no_dlq', 'several_dlqs'] as const),
  ...(['breaker_open', 'breaker_half_open'] as const),
  ...(['dlq_refuses', 'dlq_filling', 'dlq_damaged', 'expiring', 'replay_paused', 'on_disk'] as const),
  ...(['dropping', 'all_rejected', 'rejecting', 'rejected', 'dropped', 'books_differ'] as const),
  ...(['spilling', 'refusing', 'limiter_drops', 'daily_keys', 'account_limits'] as const),
];
export type FindingCode = (typeof FINDING_CODES)[number];

/** Sentences about the pipeline as a whole. */
export interface Summary {
  data: string;
  lost: string;
  /** How and when the data on disk is replayed; empty if there is none. */
  back: string;
}

/** The status without the sentences about it. */
export type Known = Omit<PipelineStatus, 'findings' | 'summary'>;

const LEVELS = ['fault', 'warning', 'note', 'ok'] as const;
const LATE_MS = 6_000;
/** A process that has run for longer is not the successor of one that reported within `LATE_MS`. */
const REPLACED_MS = 15_000;
/** Shorter conditions have only just begun. */
const JUST_MS = 5_000;
/** A difference that lasts for less comes from data that is moving; lost data stays lost. */
const DIFFERS_MS = 10_000;
/** An event this recent is still going on; one that is older is still worth a look. */
const GOES_ON_MS = 60_000;
const LATELY_MS = 15 * 60_000;
/** How long an exporter's last error counts as the cause. */
const PROBLEM_MS = 120_000;
const UNTIL_FULL = 'when that is full, clients get 503 and keep their data';
/** Fill level that counts as full, since batches rarely fit exactly. */
const FULL = 0.995;
const EXPIRES_SHARE = 0.9;
/** Fill level of the dlq, or share of its capacity that its file system has room for, at which to warn. */
const FILLING = 0.8;
const ROOM_MIN = 0.05;

/** What a breaker's reason means, whether it ends by itself, and what to do. */
const REASONS: Record<string, { what: string; alone: boolean; todo: string }> = {
  failures: {
    what: 'the upstream fails',
    alone: true,
    todo: '"nrdot check upstream" finds the cause; if it finds none, wait for the upstream.',
  },
  quota: {
    what: 'the upstream throttles (429)',
    alone: true,
    todo: 'Ask the upstream for a higher limit, or send less.',
  },
  auth: {
    what: 'the upstream refuses the key (401 or 403)',
    alone: false,
    todo: 'Set the right key in exporter.headers, then "nrdot reload".',
  },
  place: {
    what: 'the address does not answer like an upstream',
    alone: false,
    todo: 'Set the right exporter.endpoint (the base URL, such as https://otlp.nr-data.net), or exporter.proxy if a proxy answers, and restart.',
  },
};

/** How the disk accepts data again, by the dlq's state. */
const UNBLOCKS: Readonly<Record<string, string>> = {
  full: 'Raise dlq.capacity, or drain the dlq: end the outage, or raise dlq.replay_rate.',
  disk_full: 'Free space on that disk; the dlq then accepts data again by itself.',
  disk_failing: 'Repair the disk ("dmesg" has details); the dlq then accepts data again by itself.',
};

const DROPS: Readonly<Record<string, string>> = {
  capacity: 'end the outage, raise dlq.capacity, or let clients wait instead (dlq.when_full: refuse).',
  retention: 'end the outage, or raise dlq.replay_rate or dlq.retention.',
  rejected_capacity:
    'fix the cause of the rejections ("nrdot dlq ls --rejected"), or raise dlq.rejected_capacity and dlq.capacity.',
  rejected_retention:
    'check the rejected data ("nrdot dlq ls --rejected") before dlq.rejected_retention expires.',
  partial_success: "the upstream rejected single items; the exporter's log says why.",
  redis_lost: 'Redis lost its data: a lost volume, FLUSHALL, or another server under its name.',
  unaccounted: '"nrdot doctor --repair" could not find them anywhere.',
  corrupted: 'check disk and memory; "nrdot dlq verify" names what is damaged.',
};

/** The findings about a pipeline, the most severe first; if there are none, that all is well. */
export function findingsOf(status: Known): Finding[] {
  const all = [
    ...redis(status),
    ...redisLost(status),
    ...redisOlder(status),
    ...severalDlqs(status),
    ...missing(status),
    ...breakers(status),
    ...disk(status),
    ...losses(status),
    ...rejections(status),
    ...queue(status),
    ...limitFindings(status),
  ];
  all.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
  if (all.length > 0) return all;
  return [{ level: 'ok', code: 'ok', text: 'Everything flows; nothing waits for an upstream or a disk.' }];
}

/**
 * Findings for a screen that also shows the summary: removes sentences that are in the summary or in an earlier finding. The
 * first sentence of a finding always stays.
 */
export function withoutRepeats(findings: readonly Finding[], summary: Summary): Finding[] {
  const said = new Set(Object.values(summary).flatMap(sentencesOf));
  return findings.map(({ text, more, ...rest }) => {
    const [first = text, ...others] = sentencesOf(`${text} ${more ?? ''}`);
    const left = others.filter((sentence) => !said.has(sentence));
    for (const sentence of left) said.add(sentence);
    return { ...rest, text: first, ...(left.length > 0 ? { more: left.join(' ') } : {}) };
  });
}

function sentencesOf(text: string): string[] {
  const sentences = text.trim().split(/(?<=[.!?]"?) (?=[A-Z0-9])/);
  return sentences.filter((sentence) => sentence !== '');
}

export function summaryOf(status: Known): Summary {
  return {
    data: `${placesText(status)} ${arrivalText(status)}`,
    lost: lossText(status) + limitedText(status),
    back: returnText(status),
  };
}

/** Whether accepted data was lost, by the accounting. Nothing else may claim that nothing is lost. */
export function lossText({
  redis,
  books,
  dropped,
  differenceMs = 0,
  diskIsOld,
}: Pick<Known, 'redis' | 'books' | 'dropped' | 'differenceMs' | 'diskIsOld'>): string {
  if (!books) return 'Whether anything was lost is unknown without Redis, which has the accounting.';
  const { accepted, difference } = books;
  if (difference !== 0 && differenceMs >= DIFFERS_MS) {
    const what =
      difference > 0
        ? `${areText(difference)} unaccounted for, of ${numberText(accepted)} accepted`
        : `${areText(-difference)} counted beyond the ${numberText(accepted)} accepted`;
    return `${what}.${droppedText(books, dropped)}`;
  }
  if (diskIsOld) {
    const known = books.dropped > 0 ? droppedText(books, dropped).trim() : 'No known loss.';
    return `${known} What is on disk is not known yet: no dlq has reported since Redis came back.`;
  }
  // Redis and the dlq report separately: items that move between them are in both counts, or in neither.
  const moving = `Counts taken a moment apart differ by ${countText(Math.abs(difference), 'item')}.`;
  if (books.dropped > 0)
    return `${droppedText(books, dropped).trim()} ${difference === 0 ? 'All others are accounted for.' : moving}`;
  if (difference !== 0) return `No known loss. ${moving}`;
  if (redis.olderAt !== undefined)
    return 'All that Redis knows of is accounted for, but it came back with an older state.';
  return 'Nothing: every accepted item is delivered, or kept in Redis or on disk.';
}

/** What the limiter drops was never accepted, but is lost for its sender. */
function limitedText({ limiter: state }: Known): string {
  const points = state?.droppedPoints ?? 0;
  return points > 0
    ? ` Before acceptance, the limiter dropped ${countText(points, 'data point')}; their senders were told.`
    : '';
}

function droppedText({ accepted, dropped }: Accounting, reasons: Known['dropped']): string {
  if (dropped === 0) return '';
  const named = Object.entries(reasons ?? {}).map(([reason, items]) => `${numberText(items)} ${reason}`);
  const reason = named.length > 0 ? `: ${named.join(', ')}` : '';
  return ` ${numberText(dropped)} of ${numberText(accepted)} accepted items were dropped${reason}.`;
}

/** What a process that stops may say about what it leaves behind. */
export function leftText(books: Pick<Accounting, 'queued' | 'on_disk'> | undefined): string {
  if (!books) return 'Redis could not be reached, so its contents are unknown; data on disk stays there.';
  const { queued, on_disk: onDisk } = books;
  if (queued + onDisk === 0) return 'Nothing was waiting.';
  const places = [
    ...(queued > 0 ? [`${countText(queued, 'item')} in Redis`] : []),
    ...(onDisk > 0 ? [`${countText(onDisk, 'item')} on disk`] : []),
  ];
  return `${places.join(' and ')} wait for the next start.`;
}

function placesText({ queue: q, dlq, redis: { problem } }: Known): string {
  const inRedis = q
    ? `${countText(q.items, 'item')} in Redis`
    : problem
      ? 'Redis is unreachable (its data is in its AOF)'
      : 'Redis did not answer';
  const onDisk = dlq ? `${numberText(waitingOnDisk(dlq))} on disk` : 'an unknown number on disk';
  const refused = dlq?.areas.rejected.items ?? 0;
  return `${inRedis}, ${onDisk}${refused > 0 ? `, plus ${numberText(refused)} rejected` : ''}.`;
}

/** What happens to data that can only go to Redis. */
function waitsText(what: string, q: Known['queue']): string {
  if (!q) return `${what} waits in Redis; ${UNTIL_FULL}.`;
  return q.fill >= FULL
    ? 'Redis is full and the disk accepts nothing: clients get 503 and keep their data.'
    : `${what} waits in Redis (${percentText(q.fill)} full); ${UNTIL_FULL}.`;
}

/** Where arriving data goes now. */
function arrivalText(status: Known): string {
  const { services, queue: q, dlq } = status;
  const { problem } = status.redis;
  const runs = (name: ServiceName) => status.unheard || services.some(({ service }) => service === name);
  if (!problem && !runs('receiver')) return 'No data arrives: no receiver is running.';
  if (problem) {
    if (!dlq)
      return 'New data goes to a dlq that the receivers can reach; without one, clients get 503 and keep their data.';
    return diskTakes(status)
      ? "Receivers accept new data: it goes straight to the dlq's disk."
      : 'Clients get 503 and keep their data: neither Redis nor the disk accepts it.';
  }
  const fill = q ? ` (${percentText(q.fill)} full)` : '';
  const { held, all } = holds(status);
  if (all) return diskTakes(status) ? 'New data goes to disk.' : waitsText('New data', q);
  const spills = q ? CLASSES.filter((c) => q.classes[c].spills) : [];
  if (spills.length > 0) {
    return diskTakes(status)
      ? `New data goes to Redis, but ${spills.join(', ')} batches go to disk.`
      : waitsText('New data', q);
  }
  if (!runs('exporter')) return `New data waits in Redis${fill}; no exporter is running.`;
  if (held.length > 0) {
    const where = diskTakes(status) ? 'go to disk' : `wait in Redis${fill}`;
    return `New ${signalsText(held)} ${where}; other signals go to Redis, then to the upstream.`;
  }
  return status.lately?.allRejected && isGoingOn(status.lately.rejectedMs)
    ? 'New data goes to the upstream, which rejects it.'
    : 'New data goes to Redis, then to the upstream.';
}

function returnText(status: Known): string {
  const { dlq, services } = status;
  if (!dlq || waitingOnDisk(dlq) === 0) return '';
  if (dlq.replay.paused) return 'Data on disk stays there until "nrdot dlq resume".';
  if (status.redis.problem) return 'Data on disk is replayed once Redis is back.';
  if (!services.some(({ service }) => service === 'exporter'))
    return 'Data on disk is replayed once an exporter runs.';
  const takes = `this takes about ${durationText(Math.max(1, dlq.replay.drainSeconds))}`;
  const { held, all } = holds(status);
  if (held.length === 0) return `Data on disk is being replayed; ${takes} at the present rate.`;
  const until = held.every((hold) => reasonOf(hold).alone) ? 'the upstream answers' : 'that is fixed';
  if (all) return `Data on disk is replayed automatically once ${until}; ${takes}.`;
  return `Replay of ${signalsText(held)} resumes automatically once ${until}; other signals on disk, if any, are being replayed.`;
}

function redis(status: Known): Finding[] {
  const { problem, usedBytes = 0, limitBytes = 0 } = status.redis;
  if (problem) {
    const text = `Redis cannot be used: ${problem}.`;
    const [more, todo] = [arrivalText(status), startRedisText(status)];
    return [{ level: 'fault', code: 'redis_away', text, more, todo }];
  }
  if (limitBytes === 0 || usedBytes < 0.95 * limitBytes) return [];
  const text = `Redis uses ${percentText(usedBytes / limitBytes)} of its memory (${sizeText(usedBytes)} of ${sizeText(limitBytes)}).`;
  const more = diskTakes(status)
    ? 'Data that does not fit goes to disk.'
    : 'Data that does not fit is refused: the disk accepts nothing, so clients get 503 and keep their data.';
  const todo = "Raise Redis' maxmemory, or lower queue.max_bytes.";
  return [{ level: 'warning', code: 'redis_memory', text, more, todo }];
}

/** How to start Redis, as far as this process knows. */
function startRedisText({ redis: { address, isOwn } }: Known): string {
  const more = 'docs/operations.md#nrdotredisaway';
  if (isOwn)
    return `It is the redis-server of "nrdot up", which restarts it with its AOF when it exits; kill it if it hangs.${askText(address)} ${more}`;
  return `Start Redis again${address ? ` (${address})` : ''} with its AOF; never start an empty one in its place.${askText(address)} ${more}`;
}

function askText(address = ''): string {
  const flag = address.startsWith('unix:') ? `-s ${address.replace(/^unix:\/\//, '')}` : `-u ${address}`;
  return /^(rediss?|unix):/.test(address) ? ` "redis-cli ${flag} ping" shows whether it answers.` : '';
}

function redisLost({ redis: { lost }, at }: Known): Finding[] {
  if (!lost) return [];
  const blindMs = Math.max(0, lost.at - lost.seenAt);
  const level = at - lost.at <= LATELY_MS ? 'fault' : 'note';
  const text = `Redis lost its data ${durationText(Math.max(0, at - lost.at) / 1000)} ago: ${countText(lost.items, 'accepted item')} that were only there are lost, and counted as dropped (redis_lost).`;
  const more = `What it accepted in the ${durationText(blindMs / 1000)} since its last snapshot is unknown. Data on disk is intact.`;
  const todo =
    'Find the cause: a lost volume, FLUSHALL, or another server under its name. docs/redis.md, "When Redis loses its data".';
  return [{ level, code: 'redis_lost', text, more, todo }];
}

function redisOlder({ redis: { olderAt }, at }: Known): Finding[] {
  if (olderAt === undefined) return [];
  const text = `Redis came back with an older state ${durationText(Math.max(0, at - olderAt) / 1000)} ago: what it had accepted just before may be lost, and what was delivered just before may be delivered twice.`;
  const todo =
    '"nrdot doctor --repair" corrects the accounting. redis.min_replicas prevents it at a failover: docs/redis.md, "When Redis fails over".';
  return [{ level: at - olderAt <= LATELY_MS ? 'fault' : 'note', code: 'redis_older', text, todo }];
}

function missing({ services, redis: { problem }, queue: q, unheard }: Known): Finding[] {
  if (unheard) return [];
  const found: Finding[] = services
    .filter(({ ageMs }) => ageMs > LATE_MS)
    .map(({ service, instance, ageMs }) => ({
      level: 'warning',
      code: 'service_silent',
      text: `The ${service} at ${instance} has not reported for ${durationText(ageMs / 1000)}.`,
      todo: 'Check that it runs and can reach Redis; its log has the reason.',
    }));
  if (problem) return found; // unknown without Redis
  const fill = q ? ` (${percentText(q.fill)} full)` : '';
  for (const service of ['receiver', 'exporter', 'dlq'] as const) {
    if (services.some((line) => line.service === service)) continue;
    const more = {
      receiver: 'Clients get no answer, and keep their data for as long as they can.',
      exporter: 'Nothing is delivered.',
      dlq: `Data to be spilled waits in Redis${fill}, and data on disk stays there.`,
    }[service];
    const todo = `Start one: "nrdot ${service}", or "nrdot up" for all four.`;
    found.push({ level: 'fault', code: `no_${service}`, text: `No ${service} is running.`, more, todo });
  }
  return found;
}

function severalDlqs({ services }: Known): Finding[] {
  // One that was just replaced has stopped reporting; its successor has just started.
  const running = services.filter(
    ({ service, ageMs, upMs }) => service === 'dlq' && ageMs <= LATE_MS && upMs > REPLACED_MS,
  );
  if (running.length < 2) return [];
  const where = running.map(({ instance }) => instance).join(', ');
  return [
    {
      level: 'fault',
      code: 'several_dlqs',
      text: `${running.length} dlqs run with one Redis and one prefix: ${where}. The accounting has the disk of only one of them at a time.`,
      todo: 'Stop all but one, or give the other pipeline a redis.prefix of its own. A dlq that is started again on its disk replays what is there.',
    },
  ];
}

function holds({ breakers = [] }: Known): ReturnType<typeof heldOf> {
  return heldOf(breakers);
}

/** `logs`, `traces, metrics and logs` */
function signalsText(held: readonly Breaker[]): string {
  const names = held.map(({ signal }) => signal);
  return names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : `${names[0]}`;
}

function reasonOf({ reason }: Breaker): (typeof REASONS)[string] {
  return REASONS[reason] ?? { what: reason, alone: true, todo: REASONS.failures!.todo };
}

function breakers(status: Known): Finding[] {
  const { at } = status;
  const { held, all } = holds(status);
  // One finding for all signals with the same reason.
  const reasons = [...Map.groupBy(held, ({ reason }) => reason).values()];
  return reasons.map((alike) => {
    const hold = alike.reduce((first, each) => (each.sinceMs < first.sinceMs ? each : first));
    const { what, alone, todo } = reasonOf(hold);
    const said = hold.said ? ` — ${hold.said}` : '';
    const isTried = alike.some(({ state }) => state === 'half_open');
    const lasts = at - hold.sinceMs;
    const which = all && reasons.length === 1 ? 'Delivery' : `Delivery of ${signalsText(alike)}`;
    const paused = lasts < JUST_MS ? 'is paused' : `has been paused for ${durationText(lasts / 1000)}`;
    const text = `${which} ${paused}: ${what}${said}.`;
    const code = isTried ? 'breaker_half_open' : 'breaker_open';
    return { level: alone ? 'warning' : 'fault', code, text, more: arrivalText(status), todo };
  });
}

/** When the upstream is tried again for a signal; a half-open breaker may wait for its probe. */
export function nextTryText(
  { state, retryAtMs }: Breaker,
  { queue: q, dlq, at }: Pick<Known, 'queue' | 'dlq' | 'at'>,
): string {
  const sent = q ? CLASSES.reduce((sum, c) => sum + q.classes[c].exporting.items, 0) : 0;
  const waits = (q?.items ?? 0) + (dlq && !dlq.replay.paused ? waitingOnDisk(dlq) : 0);
  if (state === 'half_open' && sent > 0) return 'one batch is in flight as a probe';
  if (state === 'open' && retryAtMs > at) return `next probe in ${durationText((retryAtMs - at) / 1000)}`;
  return waits > 0 ? 'the next batch is the probe' : 'waits for a batch to send as a probe';
}

/** The upstream's last message, if it is the cause. */
function saidText({ exporter, at }: Known): string {
  const problem = exporter?.lastProblem;
  return problem && at - problem.at < PROBLEM_MS ? ` — ${problem.message || problem.reason}` : '';
}

function disk(status: Known): Finding[] {
  const { dlq, at } = status;
  if (!dlq) return [];
  const found: Finding[] = [];
  if (!diskTakes(status)) {
    const arrival = arrivalText(status);
    const more =
      status.redis.problem || arrival === waitsText('New data', status.queue)
        ? arrival
        : waitsText('Data to be spilled', status.queue);
    const todo = UNBLOCKS[dlq.state] ?? UNBLOCKS.disk_failing!;
    const text = `The disk accepts nothing: ${dlq.fault ?? dlq.state}.`;
    found.push({ level: 'fault', code: 'dlq_refuses', text, more, todo });
  } else {
    const room = roomOf(dlq);
    const share = dlq.diskBytes / (dlq.diskBytes + room);
    if (share > FILLING || room < ROOM_MIN * dlq.capacityBytes) {
      const text = `The dlq has room for ${sizeText(room)} more: it holds ${sizeText(dlq.diskBytes)} of ${sizeText(dlq.capacityBytes)} (dlq.capacity)${freeText(dlq)}.`;
      const todo = 'Stop what fills it, or make room: raise dlq.capacity, and enlarge the disk with it.';
      found.push({ level: 'warning', code: 'dlq_filling', text, todo });
    }
  }
  if (dlq.quarantinedBytes > 0 || dlq.segments.some((segment) => segment.state === 'damaged')) {
    const more = `${sizeText(dlq.quarantinedBytes)} of unreadable data is kept in quarantine; items lost with it are counted as dropped (corrupted).`;
    const todo = '"nrdot dlq verify" shows what and where; check disk and memory.';
    found.push({ level: 'warning', code: 'dlq_damaged', text: 'Data on disk is damaged.', more, todo });
  }
  const waiting = waitingOnDisk(dlq);
  const oldest = Math.min(...CLASSES.map((c) => dlq.areas[c].oldestReceivedAt || at), at);
  const what = `${areText(waiting)} on disk, the oldest for ${durationText((at - oldest) / 1000)}.`;
  if (dlq.replay.paused) {
    const text = `Replay was paused by an operator; ${waiting > 0 ? what : 'nothing is on disk.'}`;
    const todo = 'Run "nrdot dlq resume" once the reason for the pause is gone.';
    found.push({ level: waiting > 0 ? 'warning' : 'note', code: 'replay_paused', text, todo });
  } else if (waiting > 0) {
    found.push({ level: 'note', code: 'on_disk', text: what, more: returnText(status) });
  }
  if (waiting > 0 && dlq.retentionMs !== undefined && at - oldest > EXPIRES_SHARE * dlq.retentionMs) {
    const left = durationText(Math.max(0, dlq.retentionMs - (at - oldest)) / 1000);
    const text = `The oldest data on disk will be dropped in ${left} (dlq.retention).`;
    const todo = 'Raise dlq.retention and restart the dlq, or save the data with "nrdot dlq export".';
    found.push({ level: 'warning', code: 'expiring', text, todo });
  }
  return found;
}

function rejections(status: Known): Finding[] {
  const { books, dlq, lately = {} } = status;
  const { rejectedMs, allRejected } = lately;
  const kept = dlq?.areas.rejected.items ?? books?.rejected ?? 0;
  const todo = '"nrdot dlq ls --rejected" shows the reason; fix it, then run "nrdot dlq replay --rejected".';
  const more =
    'Rejected data is kept on disk, up to dlq.rejected_capacity and dlq.rejected_retention; the oldest is dropped first.';
  if (isGoingOn(rejectedMs)) {
    if (allRejected) {
      const text = `The upstream rejects all data${saidText(status)}.`;
      return [{ level: 'fault', code: 'all_rejected', text, more, todo }];
    }
    const text = 'Part of the data is rejected: the upstream refuses it permanently, or every attempt fails.';
    return [{ level: 'warning', code: 'rejecting', text, more, todo }];
  }
  if (kept === 0) return [];
  const text = `${areText(kept)} kept on disk as rejected: the upstream refused them permanently, or every attempt failed. None was rejected in the last minute.`;
  return [{ level: 'note', code: 'rejected', text, todo }];
}

function losses(status: Known): Finding[] {
  const { books, dropped = {}, differenceMs = 0, lately: { droppedMs } = {}, redis: of } = status;
  if (!books) return [];
  const found: Finding[] = [];
  const reasons = Object.keys(dropped);
  const isSaid = of.lost !== undefined && reasons.every((reason) => reason === 'redis_lost');
  if (books.dropped > 0 && !isSaid) {
    const more = droppedText(books, dropped).trim();
    const named = reasons.filter((reason) => DROPS[reason]).map((reason) => `${reason}: ${DROPS[reason]}`);
    // What an operator purged was dropped on purpose.
    const byItself = books.dropped > (dropped.purged ?? 0);
    if (byItself && isGoingOn(droppedMs)) {
      const todo = named.join(' ') || 'docs/operations.md, NrdotItemsDropped.';
      found.push({ level: 'fault', code: 'dropping', text: 'Data is being dropped.', more, todo });
    } else {
      const level = byItself && isWithin(LATELY_MS, droppedMs) ? 'warning' : 'note';
      found.push({ level, code: 'dropped', text: 'Data was dropped earlier.', more });
    }
  }
  if (books.difference !== 0 && differenceMs >= DIFFERS_MS) {
    const text = 'The books do not balance.';
    const todo = 'docs/operations.md, NrdotBooksDoNotBalance.';
    found.push({ level: 'fault', code: 'books_differ', text, more: lossText(status), todo });
  }
  return found;
}

function queue(status: Known): Finding[] {
  const { queue: state, rates } = status;
  const found: Finding[] = [];
  const spilling = state ? CLASSES.filter((c) => state.classes[c].spills) : [];
  if (state && spilling.length > 0) {
    const text = `The queue in Redis is ${percentText(state.fill)} full: more data arrives than is sent.`;
    const isHeld = holds(status).held.length > 0;
    const todo = isHeld ? 'This follows from the upstream problem above.' : 'Add exporters, or send less.';
    found.push({ level: 'warning', code: 'spilling', text, more: arrivalText(status), todo });
  }
  if (rates.refusedRequests > 0) {
    const text = `Receivers refuse ${rates.refusedRequests.toFixed(1)} requests per second.`;
    const more = 'After a 503 or 429, clients keep the data and retry; after other refusals they drop it.';
    const todo = 'For the reasons, see receiver_refused_total, or "receiver" in "nrdot status --json".';
    found.push({ level: 'warning', code: 'refusing', text, more, todo });
  }
  return found;
}

function isWithin(ms: number, agoMs = Number.POSITIVE_INFINITY): boolean {
  return agoMs <= ms;
}

function isGoingOn(agoMs: number | undefined): boolean {
  return isWithin(GOES_ON_MS, agoMs);
}

function diskTakes({ dlq }: Known): boolean {
  return dlq?.state === 'ok';
}

/** Bytes that the dlq may still write: within its capacity, and on its file system. */
export function roomOf({ capacityBytes, diskBytes, disk: fs }: NonNullable<Known['dlq']>): number {
  const own = capacityBytes - diskBytes;
  return Math.max(0, fs ? Math.min(own, fs.freeBytes - fs.reserveBytes) : own);
}

function freeText({ disk: fs }: NonNullable<Known['dlq']>): string {
  return fs ? `, ${sizeText(fs.freeBytes)} free on its disk` : '';
}

/** Items on disk that are to be replayed. */
export function waitingOnDisk({ areas }: Pick<NonNullable<Known['dlq']>, 'areas'>): number {
  return CLASSES.reduce((sum, c) => sum + areas[c].items, 0);
}

/** `1 item is`, `12 items are` */
function areText(items: number): string {
  return `${countText(items, 'item')} ${items === 1 ? 'is' : 'are'}`;
}
