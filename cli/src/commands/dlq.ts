import { parseSize } from '@nrdot/config';
import type { DlqState, ListedBatch, ReplayAnswer } from '@nrdot/dlq';
import type { Area, SegmentInfo } from '@nrdot/segment-log';
import { durationText, numberText, sizeText, timeText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { given, parsed } from '../flag-values.ts';
import { print, printable, table } from '../output.ts';
import { type SelectionFlags, selectionQuery } from './dlq-selection.ts';

/** Timeout of requests that read the whole disk. */
const READING_MS = 10 * 60_000;
const MESSAGE_SHOWN = 240;
const BATCH_OR_SEGMENT = /^([A-Za-z0-9-]{1,100}|[a-z]{1,20}\/\d{1,16})$/;

/** A name, and a value if there is one. */
type Line = [name: string, value: string | number | undefined];

/** `nrdot dlq ls`: unsettled batches, or their segments. */
export async function lsCommand(
  flags: SelectionFlags & { limit: string; segments?: boolean },
): Promise<void> {
  const client = new AdminClient(flags);
  if (flags.segments) {
    const segments = await client.get<SegmentInfo[]>('/api/dlq/segments');
    const asked = segments.filter(
      ({ area }) => (!flags.class || area === flags.class) && (!flags.rejected || area === 'rejected'),
    );
    print(flags, asked, segmentTable(asked) || 'There are no segments.');
    return;
  }
  const query = new URLSearchParams({ ...selectionQuery(flags, Date.now()), limit: flags.limit });
  const path = `/api/dlq/records?${query}`;
  const answer = await client.get<{ records: ListedBatch[]; more: boolean }>(path, READING_MS);
  const more = answer.more
    ? '\n\nThere are more: --limit N shows up to 1,000 of them; --class, --since and --until limit the selection.'
    : '';
  print(flags, answer, `${batchTable(answer.records) || 'There are no batches.'}${more}`);
}

/** `nrdot dlq show ID`: a batch, or a segment such as `normal/12`. */
export async function showCommand(id: string, flags: AdminFlags): Promise<void> {
  const client = new AdminClient(flags);
  if (!BATCH_OR_SEGMENT.test(id))
    throw new Error(`${id}: expected the id of a batch, or a segment such as normal/12, as ls shows them`);
  if (id.includes('/')) {
    const segment = await client.get<SegmentInfo>(`/api/dlq/segments/${id}`);
    print(flags, segment, pairs(segmentLines(segment)));
    return;
  }
  const batch = await client.get<ListedBatch & { done: boolean }>(`/api/dlq/records/${id}`, READING_MS);
  print(flags, batch, pairs(batchLines(batch)));
}

/** `nrdot dlq stats`: what is on disk, and the progress of replay. */
export async function statsCommand(flags: AdminFlags): Promise<void> {
  const state = await new AdminClient(flags).get<DlqState>('/api/dlq');
  print(flags, state, statsText(state));
}

/** `nrdot dlq replay`: replays batches now, rejected ones only if selected. */
export async function replayCommand(flags: SelectionFlags & { rate?: string }): Promise<void> {
  const toRate = (text: string) => parseSize(text) || undefined;
  const rate = parsed('--rate', flags.rate, toRate, 'bytes per second above 0, such as 8MiB');
  const answer = await new AdminClient(flags).post<ReplayAnswer>('/api/dlq/replay', {
    ...selectionQuery(flags, Date.now()),
    ...given({ rate }),
  });
  const { replaying, items, bytesPerSecond } = answer;
  const areas = replaying.join(', ');
  const text =
    items === 0
      ? `There is nothing to replay in ${areas}.`
      : `Replaying ${areas}, where ${numberText(items)} items are, at up to ${sizeText(bytesPerSecond)}/s. "nrdot dlq stats" shows the progress.`;
  print(flags, answer, text);
}

/** `nrdot dlq pause` and `resume`. */
export async function pauseCommand(paused: boolean, flags: AdminFlags): Promise<void> {
  const path = `/api/dlq/${paused ? 'pause' : 'resume'}`;
  const answer = await new AdminClient(flags).post<{ paused: boolean }>(path);
  const text = paused
    ? 'Replay is paused, also across restarts; spilled data is still stored. "nrdot dlq resume" ends the pause.'
    : 'Replay continues.';
  print(flags, answer, text);
}

/** `nrdot dlq purge`: drops batches; without `--yes` it only says which. */
export async function purgeCommand(flags: SelectionFlags & { yes?: boolean }): Promise<void> {
  // The service refuses both too, but not before it is --yes: what is said without must not be about more than was asked.
  if (flags.rejected && flags.class !== undefined)
    throw new Error('purge drops whole areas; expected --class or --rejected, not both');
  const client = new AdminClient(flags);
  const what = selectionQuery(flags, Date.now());
  if (!flags.yes) {
    const { areas } = await client.get<DlqState>('/api/dlq');
    const meant = (Object.keys(areas) as Area[]).filter((area) =>
      flags.rejected ? area === 'rejected' : flags.class ? area === flags.class : area !== 'rejected',
    );
    const items = meant.reduce((sum, area) => sum + areas[area].items, 0);
    throw new Error(
      `This would permanently drop ${numberText(items)} items in ${meant.join(', ') || String(flags.class)}. Save them first with "nrdot dlq export"; confirm with --yes.`,
    );
  }
  const answer = await client.post<{ areas: Area[]; items: number; heldItems: number }>(
    '/api/dlq/purge',
    { ...what, yes: true },
    READING_MS,
  );
  const held =
    answer.heldItems > 0 ? ` ${numberText(answer.heldItems)} are in flight to the upstream and stay.` : '';
  const dropped = `${numberText(answer.items)} items of ${answer.areas.join(', ')}`;
  print(flags, answer, `Dropped ${dropped}, accounted for as dropped (purged).${held}`);
}

function batchTable(records: readonly ListedBatch[]): string {
  return table(
    ['ID', 'AREA', 'SIGNAL', 'ITEMS', 'BYTES', 'RECEIVED', 'REASON', 'STATUS'],
    records.map(({ id, area, signal, items, payloadBytes, receivedAt, reason, status }) => [
      ...[id, area, signal, numberText(items), sizeText(payloadBytes), timeText(receivedAt)],
      ...[reason, status === undefined ? '-' : String(status)],
    ]),
  );
}

export function segmentTable(segments: readonly SegmentInfo[]): string {
  return table(
    ['SEGMENT', 'STATE', 'CHECKED', 'BATCHES', 'ITEMS', 'DONE', 'ON DISK', 'FIRST RECEIVED', 'LAST RECEIVED'],
    segments.map((segment) => [
      ...[`${segment.area}/${segment.sequence}`, segment.state, segment.verified ? 'yes' : 'no'],
      ...[segment.records, segment.items, segment.ackedItems].map(numberText),
      sizeText(segment.diskBytes),
      ...[segment.firstReceivedAt, segment.lastReceivedAt].map((at) => timeText(at)),
    ]),
  );
}

function segmentLines(segment: SegmentInfo): Line[] {
  const { area, sequence, state, verified, records, ackedRecords, items, ackedItems } = segment;
  return [
    ['segment', `${area}/${sequence}`],
    ['state', `${state}, its hash ${verified ? 'is correct' : 'has not been checked yet'}`],
    ['batches', `${numberText(records)}, ${numberText(ackedRecords)} of them settled`],
    ['items', `${numberText(items)}, ${numberText(ackedItems)} of them settled`],
    ['size', `${sizeText(segment.diskBytes)}, ${sizeText(segment.rawBytes)} before compression`],
    ['created', timeText(segment.createdAt)],
    ['received', `${timeText(segment.firstReceivedAt)} to ${timeText(segment.lastReceivedAt)}`],
    ...segment.damage.map((reason): Line => ['damage', reason]),
  ];
}

function batchLines(batch: ListedBatch & { done: boolean }): Line[] {
  const { id, area, class: ofClass, signal, items, encoding, payloadBytes, receivedAt, segment } = batch;
  return [
    ['batch', id],
    ['state', batch.done ? 'settled; deleted with its segment' : 'waits'],
    ['area', `${area}, in segment ${area}/${segment}`],
    ['class', ofClass],
    ['signal', signal],
    ['items', numberText(items)],
    ['payload', `${sizeText(payloadBytes)}, came as ${encoding}`],
    ['received', timeText(receivedAt)],
    ['reason', batch.reason],
    ['last status', batch.status],
    ['attempts', batch.attempts],
    ['message', batch.message ? cut(batch.message) : undefined],
  ];
}

function statsText({ state, fault, utilization, diskBytes, ballastBytes, areas, replay }: DlqState): string {
  const { paused, outstanding, bytesPerSecond, capBytesPerSecond, drainSeconds, order } = replay;
  const held = Object.entries(areas);
  const waiting = held.reduce((sum, [area, { items }]) => sum + (area === 'rejected' ? 0 : items), 0);
  const lines: Line[] = [
    ['state', fault === undefined ? state : `${state}: ${fault}`],
    ['disk', `${sizeText(diskBytes)}, ${(utilization * 100).toFixed(1)} % of dlq.capacity`],
    ['ballast', ballastBytes > 0 ? sizeText(ballastBytes) : 'removed: the disk has no room for it'],
    ['replay', `${paused ? 'paused ("nrdot dlq resume" ends it), ' : ''}${outstanding} batches in flight`],
    ['rate', `${sizeText(bytesPerSecond)}/s, at most ${sizeText(capBytesPerSecond)}/s`],
    ['drained', waiting === 0 ? 'nothing waits' : `in ${durationText(drainSeconds)} at this rate`],
    ['asked for', order?.areas.join(', ')],
  ];
  return `${pairs(lines)}\n\n${table(
    ['AREA', 'BATCHES', 'ITEMS', 'SEGMENTS', 'ON DISK', 'TO REPLAY', 'OLDEST'],
    held.map(([area, of]) => [
      ...[area, numberText(of.records), numberText(of.items), numberText(of.segments)],
      ...[sizeText(of.diskBytes), sizeText(of.waitingBytes), timeText(of.oldestReceivedAt)],
    ]),
  )}`;
}

function cut(message: string): string {
  return message.length > MESSAGE_SHOWN ? `${message.slice(0, MESSAGE_SHOWN)} …` : message;
}

/** Lines without a value are left out. */
function pairs(lines: readonly Line[]): string {
  const shown = lines.filter(([, value]) => value !== undefined);
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${printable(String(value))}`).join('\n');
}
