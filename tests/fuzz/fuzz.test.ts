import { describe, expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const FOR_MS = 700;

describe('what takes bytes from outside', () => {
  it.each(TARGETS.map((target) => [target.name, target] as const))(
    '%s: does not crash, hang or grow whatever comes',
    async (_name, target) => {
      const seed = Math.floor(Math.random() * 2 ** 31);
      expect((await fuzz(target, seed, FOR_MS)).inputs).toBeGreaterThan(0);
    },
  );
});
