import { AREAS, type Area, type SegmentLog } from '@nrdot/segment-log';
import { type AdminAnswer, AdminError, type AdminRequest, type AdminServer } from '@nrdot/service';
import type { ReplayRate } from './replay-rate.ts';
import { REPLAY_AREAS, type Replayer } from './replayer.ts';

const LIST_MAX = 1_000;

export interface RouteDeps {
  segments: SegmentLog;
  replayer: Replayer;
  rate: ReplayRate;
  now(): number;
}

/** What the dlq holds and does, for people. Times: Unix ms. */
export function dlqState({ segments, replayer, rate, now }: RouteDeps) {
  const areas = Object.fromEntries(AREAS.map((area) => [area, segments.stats(area)])) as Record<
    Area,
    ReturnType<SegmentLog['stats']>
  >;
  const waitingBytes = REPLAY_AREAS.reduce((sum, area) => {
    const { records, rawBytes } = areas[area];
    return records > 0 ? sum + rawBytes : sum;
  }, 0);
  return {
    /** When this was so: counters and clock are read in one turn. */
    at: now(),
    state: segments.fault?.code ?? 'ok',
    fault: segments.fault?.message,
    utilization: segments.utilization,
    diskBytes: segments.diskBytes,
    areas,
    replay: {
      paused: replayer.paused,
      outstanding: replayer.outstanding,
      /** Put back into the queue since the process started, uncompressed. */
      replayedBytes: replayer.replayedBytes,
      bytesPerSecond: rate.bytesPerSecond,
      drainSeconds: waitingBytes / rate.bytesPerSecond,
      order: replayer.order,
    },
  };
}

/** The dlq's part of the admin address: what `nrdot dlq …` speaks to. */
export function addRoutes(admin: AdminServer, deps: RouteDeps): void {
  const { segments, replayer, rate } = deps;
  admin.route('GET', '/api/dlq', () => dlqState(deps));
  admin.route('GET', '/api/dlq/segments', () => segments.segments());
  admin.route('GET', '/api/dlq/records', (request) => listRecords(segments, request));
  admin.route('GET', '/api/dlq/records/:id', async ({ params }) => {
    for (const area of AREAS) {
      for await (const { record, position, acked } of segments.scan(area)) {
        if (record.envelope.id !== params.id) continue;
        return {
          ...record.envelope,
          area,
          segment: position.sequence,
          done: acked,
          payloadBytes: record.payload.byteLength,
        };
      }
    }
    throw new AdminError(404, 'not_found', `there is no batch ${params.id} on the disk`);
  });
  admin.route('POST', '/api/dlq/verify', async () => {
    let checked = 0;
    while (await segments.verifyOne()) checked++;
    return { checked, segments: segments.segments() };
  });
  admin.route('POST', '/api/dlq/pause', async () => {
    await replayer.pause(true);
    return { paused: true };
  });
  admin.route('POST', '/api/dlq/resume', async () => {
    await replayer.pause(false);
    return { paused: false };
  });
  admin.route('POST', '/api/dlq/replay', async ({ body, query }) => {
    const asked = { ...query, ...(typeof body === 'object' ? body : {}) } as Record<string, unknown>;
    const areas = asked.rejected
      ? (['rejected'] as const)
      : asked.class === undefined
        ? REPLAY_AREAS
        : [areaOf(asked.class)];
    if (asked.rate !== undefined) {
      const bytes = Number(asked.rate);
      if (!(bytes > 0)) throw new AdminError(400, 'bad_request', 'rate: expected bytes per second above 0');
      rate.setCap(bytes);
    }
    await replayer.replay({ areas, since: time(asked.since, 0), until: time(asked.until, deps.now()) });
    return { replaying: areas };
  });
  admin.route('POST', '/api/dlq/purge', async ({ body, query }) => {
    const asked = { ...query, ...(typeof body === 'object' ? body : {}) } as Record<string, unknown>;
    if (String(asked.yes) !== 'true') {
      throw new AdminError(400, 'bad_request', 'purge gives batches up for good; say so with yes: true');
    }
    const area = areaOf(asked.area ?? asked.class);
    return { area, dropped: await segments.purge(area) };
  });
}

async function listRecords(segments: SegmentLog, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = Math.min(LIST_MAX, Math.max(1, Number(query.limit ?? 100) || 100));
  const areas = query.area === undefined ? AREAS : [areaOf(query.area)];
  const found: object[] = [];
  for (const area of areas) {
    for await (const { record, position, acked } of segments.scan(area)) {
      if (acked) continue;
      if (found.length >= limit) return { records: found, more: true };
      found.push({
        ...record.envelope,
        area,
        segment: position.sequence,
        payloadBytes: record.payload.byteLength,
      });
    }
  }
  return { records: found, more: false };
}

function areaOf(name: unknown): Area {
  const area = AREAS.find((known) => known === name);
  if (!area)
    throw new AdminError(
      400,
      'bad_request',
      `"${String(name)}" is no area; expected one of ${AREAS.join(', ')}`,
    );
  return area;
}

/** A time as Unix ms or as ISO 8601. */
function time(value: unknown, otherwise: number): number {
  if (value === undefined) return otherwise;
  const ms =
    typeof value === 'number' || /^\d+$/.test(String(value)) ? Number(value) : Date.parse(String(value));
  if (Number.isNaN(ms))
    throw new AdminError(400, 'bad_request', `"${String(value)}" is no time; expected ISO 8601 or Unix ms`);
  return ms;
}
