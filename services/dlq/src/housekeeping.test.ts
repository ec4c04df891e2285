import type { Store } from '@nrdot/queue';
import type { SegmentLog } from '@nrdot/segment-log';
import { expect, it } from 'vitest';
import { Housekeeping } from './housekeeping.ts';
import type { Ledger } from './ledger.ts';
import type { Replayer } from './replayer.ts';

it('tells Redis what the disk holds when that has changed, and again now and then, as Redis may forget', async () => {
  let told = 0;
  const keeping = new Housekeeping({
    store: { reportDisk: async () => void told++ } as unknown as Store,
    segments: {
      maintain: async () => {},
      verifyOne: async () => {},
      stats: () => ({ items: 3 }),
    } as unknown as SegmentLog,
    ledger: { tell: async () => false, pending: () => 0 } as unknown as Ledger,
    replayer: { checkpoint: async () => {}, wake: () => {} } as unknown as Replayer,
    notReady: () => undefined,
  });
  const turns = async (many: number) => {
    told = 0;
    for (let i = 0; i < many; i++) await keeping.turn();
    return told;
  };
  expect(await turns(9)).toBe(1);
  expect(await turns(10)).toBe(1);
  keeping.changed();
  expect(await turns(5)).toBe(1);
});
