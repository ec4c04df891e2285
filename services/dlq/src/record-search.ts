import { timeOfBatch } from '@nrdot/queue';
import { AREAS, type Entry, type Period, type SegmentLog } from '@nrdot/segment-log';

/** Allows for the time between receipt and the batch's id, and for clock changes meanwhile. */
const NEAR_MS = 60_000;

/**
 * Finds a batch on disk. Its id begins with the time of receipt, and segments know the times of their first and last records,
 * so the few segments of that time are read first, and all others only if it is in none of them.
 */
export async function findRecord(
  segments: Pick<SegmentLog, 'scan'>,
  id: string,
): Promise<(Entry & { acked: boolean }) | undefined> {
  const at = timeOfBatch(id);
  const near: Period[] = at === undefined ? [] : [{ since: at - NEAR_MS, until: at + NEAR_MS }];
  for (const period of [...near, undefined]) {
    for (const area of AREAS) {
      for await (const entry of segments.scan(area, period)) {
        if (entry.record.envelope.id === id) return entry;
      }
    }
  }
  return undefined;
}
