import { newBatchId } from '@nrdot/queue';
import type { Area, Entry, Period, SegmentLog } from '@nrdot/segment-log';
import { expect, it } from 'vitest';
import { findRecord } from './record-search.ts';

const HOUR_MS = 3_600_000;
const NOW = 1_700_000_000_000;

/** A segment for each hour of a day in the area normal, ten records each; `read` counts the records that were read. */
function aDay() {
  let read = 0;
  const hours = Array.from({ length: 24 }, (_, hour) =>
    Array.from({ length: 10 }, (_, n) => {
      const receivedAt = NOW + hour * HOUR_MS + n * 1_000;
      return { receivedAt, id: newBatchId(receivedAt + 5) };
    }),
  );
  const segments = {
    scan: async function* (
      area: Area,
      { since, until }: Period = { since: 0, until: Number.MAX_SAFE_INTEGER },
    ) {
      if (area !== 'normal') return;
      for (const [sequence, hour] of hours.entries()) {
        if (hour.at(-1)!.receivedAt < since || hour[0]!.receivedAt > until) continue;
        for (const envelope of hour) {
          read++;
          yield { record: { envelope }, position: { area, sequence }, acked: false } as unknown as Entry & {
            acked: boolean;
          };
        }
      }
    },
  } as unknown as SegmentLog;
  return { segments, hours, read: () => read };
}

it('reads only the segments of the time in the id', async () => {
  const { segments, hours, read } = aDay();
  const { id } = hours[13]![7]!;
  expect(await findRecord(segments, id)).toMatchObject({ position: { area: 'normal', sequence: 13 } });
  expect(read()).toBe(8);
});

it('reads all segments if the batch is not where its id says, or the id has another format', async () => {
  const { segments, hours, read } = aDay();
  hours[20]![3]!.id = newBatchId(NOW);
  expect(await findRecord(segments, hours[20]![3]!.id)).toMatchObject({ position: { sequence: 20 } });
  hours[5]![0]!.id = 'of-another-make';
  expect(await findRecord(segments, 'of-another-make')).toMatchObject({ position: { sequence: 5 } });
  const before = read();
  expect(await findRecord(segments, 'not-there')).toBeUndefined();
  expect(read() - before).toBe(240);
});
