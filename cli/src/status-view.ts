import { heldOf } from '@nrdot/queue/breaker-state';
import { CLASSES, type PriorityClass } from '@nrdot/queue/priority-class';
import type { DailyStatus as Daily, DlqArea, Finding, PipelineStatus } from '@nrdot/status';
import { nextTryText, roomOf, waitingOnDisk, withoutRepeats } from '@nrdot/status/findings';
import { usageText } from '@nrdot/status/limit-findings';
import { countText, durationText, numberText, percentText, sizeText, timeText } from '@nrdot/telemetry';
import { printable, table } from './output.ts';
import { bar } from './progress.ts';
import { painter } from './terminal.ts';

/** Maximum number of findings on the screen; the most severe come first. */
const FINDINGS_SHOWN = 8;
const SERVICES_SHOWN = 12;
const LARGEST_SHOWN = 3;
/** docs/operations.md explains each column. */
export const CLASS_COLUMNS = ['CLASS', 'WAITING', 'BEING SENT', 'ON DISK', 'OLDEST', 'SENT', 'SHARE', ''];
const INDENT = ' '.repeat(11);
/** Wider lines are hard to read; narrower than the tables makes no sense. */
const WIDTH = { most: 120, least: 72 };

const BOLD = 1;
const DIM = 2;

/** Colour (ANSI) and name of each level. */
const LEVELS: Record<Finding['level'], { name: string; colour: number }> = {
  fault: { name: 'FAULT', colour: 31 },
  warning: { name: 'WARNING', colour: 33 },
  note: { name: 'note', colour: 36 },
  ok: { name: 'ok', colour: 32 },
};

export interface ViewOptions {
  /** Where the status was read. */
  url: string;
  colour: boolean;
  /** Characters per line; those of the screen, if there is one. */
  columns?: number | undefined;
}

/** The pipeline's status as lines for one screen: findings, where the data is, the accounting, services. */
export function statusLines(status: PipelineStatus, options: ViewOptions): string[] {
  const { url, colour } = options;
  const columns = options.columns || WIDTH.most; // a terminal of unknown width reports 0
  const width = Math.max(WIDTH.least, Math.min(WIDTH.most, columns)) - INDENT.length;
  const paint = painter(colour);
  /** A text after its name, wrapped. */
  const named = (code: number, name: string, text: string) =>
    wrapped(printable(text), width).map(
      (line, i) => (i === 0 ? paint(code, name.padEnd(INDENT.length)) : INDENT) + line,
    );
  const rows = (lines: readonly string[]) =>
    lines.map((line, i) => INDENT + (i === 0 ? paint(DIM, line) : line));
  const findings = withoutRepeats(status.findings, status.summary);
  const left = findings.length - FINDINGS_SHOWN;
  const { data, back, lost } = status.summary;
  return [
    `${paint(BOLD, 'NRDOT+')}  ${timeText(status.at)}  ${url}`,
    '',
    ...findings.slice(0, FINDINGS_SHOWN).flatMap(({ level, text, more, todo }) => {
      const { name, colour: code } = LEVELS[level];
      return [
        ...named(code, name, more ? `${text} ${more}` : text),
        ...(todo ? wrapped(printable(`→ ${todo}`), width).map((line) => INDENT + line) : []),
      ];
    }),
    ...(left > 0 ? [`${INDENT}and ${left} more; --json shows all`] : []),
    '',
    ...named(BOLD, 'data', [data, back].filter(Boolean).join(' ')),
    ...named(BOLD, 'lost', lost),
    '',
    ...named(BOLD, 'flow', flow(status)),
    ...rows(classTable(status)),
    '',
    ...breaker(status).flatMap((line, i) => named(BOLD, i === 0 ? 'breaker' : '', line)),
    ...(status.account ? named(BOLD, 'account', status.account.map(usageText).join(', ')) : []),
    ...named(BOLD, 'queue', queue(status)),
    ...named(BOLD, 'disk', disk(status)),
    ...(status.limiter ? named(BOLD, 'limiter', limiter(status.limiter)) : []),
    ...(status.limiter?.daily ? named(BOLD, 'day', daily(status.limiter.daily)) : []),
    ...(status.check ? named(BOLD, 'check', check(status.check)) : []),
    ...books(status).flatMap((line, i) => named(BOLD, i === 0 ? 'books' : '', line)),
    '',
    ...rows(serviceTable(status)),
  ];
}

/** The status in one line, for logs and pipes. */
export function statusLine(status: PipelineStatus): string {
  const { at, rates, queue: q, dlq, books: b, breaker: gate, findings } = status;
  const [{ level, text }] = findings as [Finding];
  return [
    timeText(at),
    LEVELS[level].name,
    `received ${perSecond(rates.received)}`,
    `delivered ${booked(status, rates.delivered)}`,
    `in Redis ${q ? numberText(q.items) : '?'}`,
    `on disk ${dlq ? numberText(waitingOnDisk(dlq)) : '?'}`,
    `breaker ${gate?.state ?? '?'}`,
    ...(b && b.dropped > 0 ? [`dropped ${numberText(b.dropped)}`] : []),
    `difference ${b ? numberText(b.difference) : '?'}`,
    printable(text),
  ].join('  ');
}

function flow(status: PipelineStatus): string {
  const { rates } = status;
  const parts = [
    `received ${perSecond(rates.received)}`,
    `delivered ${booked(status, rates.delivered)}`,
    `to disk ${booked(status, rates.stored)}`,
    `back from disk ${perSecond(rates.replayed)}`,
    ...(rates.refusedRequests > 0 ? [`refused ${rates.refusedRequests.toFixed(1)} requests/s`] : []),
    ...(status.books && rates.dropped > 0 ? [`dropped ${perSecond(rates.dropped)}`] : []),
    ...(rates.limiterDropped > 0 ? [`dropped by the limiter ${perSecond(rates.limiterDropped)}`] : []),
  ];
  return parts.join('   ');
}

function classTable(status: PipelineStatus): string[] {
  const { queue: q, dlq, rates, at } = status;
  const waits = (c: PriorityClass) =>
    q !== undefined && q.classes[c].waiting.items + q.classes[c].replay.items > 0;
  const competing = CLASSES.filter(waits);
  const weights = competing.reduce((sum, c) => sum + (q?.classes[c].weight ?? 0), 0);
  /** Age of the oldest batch, in Redis or on disk. */
  const oldest = (area: DlqArea, inRedisMs = 0) => {
    const since = dlq?.areas[area].oldestReceivedAt ?? 0;
    const ageMs = Math.max(inRedisMs, since > 0 ? at - since : 0);
    return ageMs > 0 ? durationText(ageMs / 1000) : '-';
  };
  const rows = CLASSES.map((c) => {
    const here = q?.classes[c];
    // Weights only apply while several classes compete for the same room.
    const binds = here && competing.length > 1 && competing.includes(c);
    return [
      c,
      here ? numberText(here.waiting.items + here.replay.items + here.spilling.items) : '?',
      here ? numberText(here.exporting.items) : '?',
      dlq ? numberText(dlq.areas[c].items) : '?',
      oldest(c, here?.oldestAgeMs),
      booked(status, rates.moved[c]),
      binds ? `${percentText(here.achievedShare)} (${percentText(here.weight / weights)} due)` : '-',
      here?.spills ? 'spills to disk' : '',
    ];
  });
  // The rejected area does not replay by itself.
  if (dlq && dlq.areas.rejected.items > 0)
    rows.push(['rejected', '-', '-', numberText(dlq.areas.rejected.items), oldest('rejected'), '-', '-', '']);
  return table(CLASS_COLUMNS, rows).split('\n');
}

/** A line for each signal that is held back if others are not; otherwise one for all. */
function breaker(status: PipelineStatus): string[] {
  const { breaker: gate, breakers = [], exporter } = status;
  if (!gate) return ['unknown without Redis'];
  const upstream = exporter?.upstream ? `, upstream ${exporter.upstream}` : '';
  const { held, all } = heldOf(breakers);
  if (held.length === 0) return [`closed: everything is sent${upstream}`];
  const words = (held: typeof gate) =>
    `${held.state.replace('_', '-')} (${held.reason}), ${nextTryText(held, status)}${upstream}`;
  if (all) return [words(gate)];
  return [...held.map((each) => `${each.signal} ${words(each)}`), 'other signals are sent'];
}

function queue({ queue: q, redis }: PipelineStatus): string {
  if (!q) return 'unknown without Redis';
  const limit = redis.limitBytes ? ` of ${sizeText(redis.limitBytes)}` : '';
  const memory = redis.usedBytes === undefined ? '' : `; Redis uses ${sizeText(redis.usedBytes)}${limit}`;
  return `${bar(q.fill)} ${percentText(q.fill)} full: ${numberText(q.items)} items, ${sizeText(q.bytes)} of ${sizeText(q.maxBytes)}${memory}`;
}

function disk({ dlq, diskIsOld, drain, breaker: gate }: PipelineStatus): string {
  if (!dlq) return diskIsOld ? 'no dlq has reported since Redis came back' : 'no dlq reports';
  const { areas, diskBytes, capacityBytes, rejectedCapacityBytes = 0, replay, disk: fs } = dlq;
  const room = roomOf(dlq);
  // Less room than dlq.capacity leaves: the file system is the limit.
  const isShort = fs !== undefined && room < capacityBytes - diskBytes;
  const fill =
    isShort || capacityBytes === 0 ? diskBytes / Math.max(1, diskBytes + room) : diskBytes / capacityBytes;
  const ofCapacity = `${sizeText(diskBytes)} of ${sizeText(capacityBytes)} (dlq.capacity)`;
  const parts = [
    isShort
      ? `${bar(room > 0 ? fill : 1)} room for ${sizeText(room)}: its file system has ${sizeText(fs.freeBytes)} free, of which dlq.reserve keeps ${sizeText(fs.reserveBytes)}; holds ${ofCapacity}`
      : `${bar(fill)} ${percentText(fill)} full: ${ofCapacity}`,
    `${countText(waitingOnDisk(dlq), 'item')} to replay`,
  ];
  if (areas.rejected.items > 0) {
    const { diskBytes: bytes, items } = areas.rejected;
    const of =
      rejectedCapacityBytes > 0
        ? `, ${percentText(bytes / rejectedCapacityBytes)} full: ${sizeText(bytes)} of ${sizeText(rejectedCapacityBytes)} (dlq.rejected_capacity)`
        : `, ${sizeText(bytes)}`;
    parts.push(`${countText(items, 'rejected item')}${of}`);
  }
  if (drain && drain.leftItems > 0 && drain.fromItems > 0 && gate?.state === 'closed' && !replay.paused) {
    const done = 1 - drain.leftItems / drain.fromItems;
    parts.push(`${percentText(done)} replayed, at ${sizeText(replay.bytesPerSecond)}/s`);
  }
  return parts.join('; ');
}

function limiter(l: NonNullable<PipelineStatus['limiter']>): string {
  const dropped = l.droppedPoints > 0 ? `, ${numberText(l.droppedPoints)} points dropped` : '';
  return `${numberText(l.keysUsed)} of ${numberText(l.maxKeys)} key-sets in use${l.mode === 'observe' ? ' (observes only)' : ''}${dropped}`;
}

/** Series of this UTC day, for the metrics with the most. */
function daily({ limit, mode, sum, metrics }: Daily): string {
  const shown = metrics.slice(0, LARGEST_SHOWN).map(({ metric, keys, forecast }) => {
    const atEnd = forecast === undefined ? '' : `, forecast ${numberText(forecast)}`;
    return `${metric} ${numberText(keys)} (${percentText(keys / limit)}${atEnd})`;
  });
  const top = shown.length > 0 ? `; largest: ${shown.join(', ')}` : '';
  return `${numberText(sum)} series since midnight UTC, at most ${numberText(limit)} per metric${mode === 'enforce' ? ' (enforced)' : ''}${top}`;
}

/** What New Relic would not keep as it is. */
function check({ sample, items, broken }: NonNullable<PipelineStatus['check']>): string {
  const looked = `${numberText(items)} items checked (${Number((100 * sample).toFixed(1))} % of the batches)`;
  if (broken.length === 0) return `${looked}: New Relic would keep them unchanged`;
  const shown = broken
    .slice(0, LARGEST_SHOWN)
    .map(({ effect, rule, signal, items: of }) => `${numberText(of)} of ${signal} ${effect} (${rule})`);
  const left = broken.length - LARGEST_SHOWN;
  return `${looked}: New Relic would have ${shown.join(', ')}${left > 0 ? `, and ${left} more rules` : ''}; nrdot check traffic has examples`;
}

function books({ books: b, diskIsOld }: PipelineStatus): string[] {
  if (!b) return ['unknown without Redis'];
  const n = numberText;
  return [
    `accepted ${n(b.accepted)} = delivered ${n(b.delivered)} + in Redis ${n(b.queued)} + on disk ${n(b.on_disk)}${diskIsOld ? ' (last known)' : ''} + rejected ${n(b.rejected)} + dropped ${n(b.dropped)}`,
    `difference ${n(b.difference)}${b.difference === 0 ? '' : '; it varies while data flows, and must be 0 when nothing moves'}`,
  ];
}

function serviceTable({ services }: PipelineStatus): string[] {
  if (services.length === 0) return ['no service has reported'];
  const rows = services
    .slice(0, SERVICES_SHOWN)
    .map(({ service, instance, upMs, ageMs, rssBytes, version, state }) => [
      ...[service, state, durationText(upMs / 1000), durationText(ageMs / 1000)],
      ...[sizeText(rssBytes), version, instance],
    ]);
  const left = services.length - SERVICES_SHOWN;
  const head = ['SERVICE', 'STATE', 'UP', 'HEARD', 'MEMORY', 'VERSION', 'PROCESS'];
  return [...table(head, rows).split('\n'), ...(left > 0 ? [`and ${left} more`] : [])];
}

/** A rate that only Redis knows: while it is away, the last one is out of date. */
function booked({ books: b }: PipelineStatus, rate: number): string {
  return b ? perSecond(rate) : '?';
}

function perSecond(rate: number): string {
  return `${numberText(Math.round(rate))}/s`;
}

/** Wraps between words; runs of blanks within a line are kept. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const [word] of text.matchAll(/\[[= ]*\]\s*|\S+\s*/g)) {
    const line = lines.at(-1);
    if (line === undefined || line.length + word.trimEnd().length > width) lines.push(word);
    else lines[lines.length - 1] = line + word;
  }
  return lines.map((line) => line.trimEnd());
}
