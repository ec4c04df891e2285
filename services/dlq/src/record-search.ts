import { timeOfBatch } from '@nrdot/queue';
import { AREAS, type Area, type Entry, type Period, type SegmentLog } from '@nrdot/segment-log';

/** From when a request was received until its batch has an id, and what a clock may be set by meanwhile. */
const NEAR_MS = 60_000;

/**
 * Finds a batch on the disk. An id begins with the time at which it was received, and each segment knows the times of its first and
 * its last record, so the few segments of that time are read first; all of them only when it is in none of those.
 */
export async function findRecord(
  segments: Pick<SegmentLog, 'scan'>,
  id: string,
): Promise<(Entry & { acked: boolean; area: Area }) | undefined> {
  const at = timeOfBatch(id);
  const near: Period[] = at === undefined ? [] : [{ since: at - NEAR_MS, until: at + NEAR_MS }];
  for (const period of [...near, undefined]) {
    for (const area of AREAS) {
      for await (const entry of segments.scan(area, period)) {
        if (entry.record.envelope.id === id) return { ...entry, area };
      }
    }
  }
  return undefined;
}
