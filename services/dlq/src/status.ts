import { statfs } from 'node:fs/promises';
import type { Config } from '@nrdot/config';
import { MESSAGE_MAX } from '@nrdot/queue';
import { AREAS } from '@nrdot/segment-log';
import { type DlqStatus, SEGMENTS_MAX } from '@nrdot/status';
import { keptFree, type Reserve } from './reserve.ts';
import { dlqState, type RouteDeps } from './routes.ts';

/** The dlq's part of the process status: the same as `/api/dlq`, plus the segments, in a bounded size. */
export async function dlqStatus(
  deps: RouteDeps,
  options: Config['dlq'] & Reserve,
  replayedItems: number,
): Promise<DlqStatus> {
  const { dir, capacityBytes, rejectedCapacityBytes, retentionMs } = options;
  const { state, fault, areas, diskBytes, replay } = dlqState(deps);
  const { paused, outstanding, bytesPerSecond, drainSeconds } = replay;
  const files = deps.segments.segments();
  // List the oldest segments of each area, which are replayed next.
  const perArea = Math.floor(SEGMENTS_MAX / AREAS.length);
  const short = files.length > SEGMENTS_MAX;
  const shown = short
    ? AREAS.flatMap((area) => files.filter((file) => file.area === area).slice(0, perArea))
    : files;
  return {
    state,
    ...(fault ? { fault: fault.slice(0, MESSAGE_MAX) } : {}),
    diskBytes,
    capacityBytes,
    rejectedCapacityBytes,
    ...(await fileSystemOf(dir, await keptFree(options))),
    retentionMs,
    areas: Object.fromEntries(
      AREAS.map((area) => {
        const { items, waitingBytes, diskBytes: bytes, segments, oldestReceivedAt } = areas[area];
        return [area, { items, waitingBytes, diskBytes: bytes, segments, oldestReceivedAt }];
      }),
    ) as DlqStatus['areas'],
    segments: shown.map((file) => ({
      area: file.area,
      sequence: file.sequence,
      // The reader keeps its segment open also while replay may not go on.
      state: file.state === 'replaying' && !deps.replayer.isGoing(file.area) ? file.file : file.state,
      diskBytes: file.diskBytes,
      items: Math.max(0, file.items - file.ackedItems),
      done: file.records === 0 ? 0 : Math.round((100 * file.ackedRecords) / file.records) / 100,
    })),
    segmentsLeftOut: files.length - shown.length,
    quarantinedBytes: deps.segments.quarantinedBytes,
    replay: {
      ...{ paused, outstanding, bytesPerSecond, drainSeconds },
      ...{ replayedItems, returnedItems: deps.replayer.returnedItems },
    },
  };
}

async function fileSystemOf(dir: string, reserveBytes: number): Promise<Pick<DlqStatus, 'disk'>> {
  try {
    const { bavail, blocks, bsize } = await statfs(dir);
    return { disk: { freeBytes: bavail * bsize, totalBytes: blocks * bsize, reserveBytes } };
  } catch {
    return {}; // whoever writes there reports the fault
  }
}
