import {
  AREAS,
  type Area,
  type AreaStats,
  type Entry,
  type Envelope,
  type SegmentInfo,
  type SegmentLog,
} from '@nrdot/segment-log';
import { type AdminAnswer, AdminError, type AdminRequest, type AdminServer } from '@nrdot/service';
import type { Logger } from '@nrdot/telemetry';
import { JsonLines } from './export.ts';
import { findRecord } from './record-search.ts';
import type { ReplayRate } from './replay-rate.ts';
import type { Replayer } from './replayer.ts';
import {
  areaOf,
  badRequest,
  isSelected,
  REPLAY_AREAS,
  type Selection,
  selectionOf,
  truth,
  wholeNumber,
} from './selection.ts';

const LIST_MAX = 1_000;
const LIST_DEFAULT = 100;
const ID = /^[A-Za-z0-9-]{1,100}$/;

export interface RouteDeps {
  segments: SegmentLog;
  replayer: Replayer;
  rate: ReplayRate;
  log: Logger;
  now(): number;
}

export type DlqState = ReturnType<typeof dlqState>;

/** The dlq's state for people. Times: Unix ms. */
export function dlqState({ segments, replayer, rate, now }: Omit<RouteDeps, 'log'>) {
  const areas = Object.fromEntries(AREAS.map((area) => [area, segments.stats(area)])) as {
    [A in Area]: AreaStats;
  };
  const waitingBytes = REPLAY_AREAS.reduce((sum, area) => sum + areas[area].waitingBytes, 0);
  return {
    /** Time of this snapshot: counters and clock are read in one turn of the event loop. */
    at: now(),
    state: segments.fault?.code ?? 'ok',
    fault: segments.fault?.message,
    utilization: segments.utilization,
    diskBytes: segments.diskBytes,
    ballastBytes: segments.ballastBytes,
    areas,
    replay: {
      paused: replayer.paused,
      outstanding: replayer.outstanding,
      /** Replayed since the process started, uncompressed. */
      replayedBytes: replayer.replayedBytes,
      bytesPerSecond: rate.bytesPerSecond,
      capBytesPerSecond: rate.cap,
      drainSeconds: waitingBytes / rate.bytesPerSecond,
      order: replayer.order,
    },
  };
}

/** A batch on disk, for people; without its payload. */
export interface ListedBatch extends Envelope {
  area: Area;
  segment: number;
  /** Before compression. */
  payloadBytes: number;
}

/** Answer of `POST /api/dlq/replay`. */
export interface ReplayAnswer {
  replaying: readonly Area[];
  /** Items on disk in these areas, regardless of the order's other criteria. */
  items: number;
  bytesPerSecond: number;
}

/** The dlq's routes on the admin address, which `nrdot dlq …` uses. */
export function addRoutes(admin: AdminServer, deps: RouteDeps): void {
  const { segments, replayer, rate } = deps;
  admin.route('GET', '/api/dlq', () => dlqState(deps));
  admin.route('GET', '/api/dlq/segments', () => segments.segments());
  admin.route('GET', '/api/dlq/segments/:area/:sequence', ({ params }) => oneSegment(segments, params));
  admin.route('GET', '/api/dlq/records', (request) => listRecords(segments, request));
  admin.route('GET', '/api/dlq/records/:id', ({ params: { id = '' } }) => oneRecord(segments, id));
  admin.route('GET', '/api/dlq/export', ({ query }) => exported(deps, selectionOf(query, AREAS)));
  admin.route('POST', '/api/dlq/verify', () => verified(segments));
  for (const [name, paused] of Object.entries({ pause: true, resume: false })) {
    admin.route('POST', `/api/dlq/${name}`, () => replayer.pause(paused).then(() => ({ paused })));
  }
  admin.route('POST', '/api/dlq/replay', async (request): Promise<ReplayAnswer> => {
    const asked = askedOf(request);
    const selection = selectionOf(asked, REPLAY_AREAS, ['rate']);
    const bytes = wholeNumber(asked.rate);
    if (asked.rate !== undefined && !bytes)
      throw badRequest('rate: expected bytes per second, a whole number from 1');
    if (bytes) rate.setCap(bytes);
    await replayer.replay(selection);
    const items = selection.areas.reduce((sum, area) => sum + segments.stats(area).items, 0);
    return { replaying: selection.areas, items, bytesPerSecond: rate.bytesPerSecond };
  });
  admin.route('POST', '/api/dlq/purge', async (request) => {
    const asked = askedOf(request);
    if (!truth('yes', asked.yes))
      throw badRequest('purge drops batches permanently; confirm with yes: true (nrdot dlq purge --yes)');
    const { areas, class: ofClass } = selectionOf(asked, REPLAY_AREAS, ['yes']);
    if (ofClass !== undefined || asked.since !== undefined || asked.until !== undefined)
      throw badRequest('purge drops whole areas; expected class or rejected, and neither since nor until');
    return { areas, ...(await replayer.purge(areas)) };
  });
}

function askedOf({ body, query }: AdminRequest): Record<string, unknown> {
  if (body !== undefined && body !== null && (typeof body !== 'object' || Array.isArray(body)))
    throw badRequest('the body: expected a JSON object, or none');
  return { ...query, ...body };
}

function oneSegment(
  segments: SegmentLog,
  { area: name, sequence = '' }: Record<string, string>,
): SegmentInfo {
  const area = areaOf(name);
  const found = segments.segments().find((each) => each.area === area && String(each.sequence) === sequence);
  if (found) return found;
  throw new AdminError(404, 'not_found', `there is no segment ${sequence.slice(0, 20)} of ${area}`);
}

async function oneRecord(segments: SegmentLog, id: string): Promise<ListedBatch & { done: boolean }> {
  if (!ID.test(id)) throw badRequest('the id: expected letters, digits and -, at most 100, as ls shows them');
  const found = await findRecord(segments, id);
  if (found) return { ...listed(found), done: found.acked };
  throw new AdminError(404, 'not_found', `there is no batch ${id} on the disk; it may have been delivered`);
}

async function listRecords(segments: SegmentLog, { query }: AdminRequest): Promise<AdminAnswer> {
  const selection = selectionOf(query, AREAS, ['limit']);
  const limit = wholeNumber(query.limit ?? LIST_DEFAULT);
  if (!limit || limit > LIST_MAX) throw badRequest(`limit: expected a whole number from 1 to ${LIST_MAX}`);
  const records: ListedBatch[] = [];
  for (const area of selection.areas) {
    for await (const entry of segments.scan(area, selection)) {
      if (entry.acked || !isSelected(selection, entry.record.envelope)) continue;
      if (records.length >= limit) return { records, more: true };
      records.push(listed(entry));
    }
  }
  return { records, more: false };
}

function listed({ record: { envelope, payload }, position: { area, sequence } }: Entry): ListedBatch {
  return { ...envelope, area, segment: sequence, payloadBytes: payload.byteLength };
}

/** The only route of the admin address that returns payloads. */
async function* exported(
  { segments, log }: RouteDeps,
  selection: Selection,
): AsyncGenerator<string | Uint8Array> {
  const lines = new JsonLines();
  try {
    for (const area of selection.areas) {
      for await (const { record, acked } of segments.scan(area, selection)) {
        if (acked || !isSelected(selection, record.envelope)) continue;
        const problem = yield* lines.parts(record);
        if (problem === undefined) yield '\n';
        else log.warn({ batch: record.envelope.id, problem }, 'a batch was left out of an export');
      }
    }
  } finally {
    await lines.stop();
  }
}

/** One line per segment as soon as it was checked, to show progress. */
async function* verified(segments: SegmentLog): AsyncGenerator<string> {
  for await (const segment of segments.verify()) yield `${JSON.stringify(segment)}\n`;
}
