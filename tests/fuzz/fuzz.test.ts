import { describe, expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const FOR_MS = 700;

describe('everything that reads external input', () => {
  it.each(TARGETS.map(({ name }) => name))('%s: does not crash, hang or grow on any input', async (name) => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    expect((await fuzz(name, seed, FOR_MS)).inputs).toBeGreaterThan(0);
  });
});

describe('a faulty target is found, with its input', () => {
  const sick = new URL('./sick-targets.ts', import.meta.url).href;
  const input = `input 1 ${Buffer.from('sick').toString('base64')}`;

  it.each([
    ['loops', /has not come back after .* of CPU time/],
    ['waits', /has not come back after/],
    ['throws', /not its own kind/],
    ['ends', /ended with 3/],
    ['fills the heap', /memory/],
  ])('%s', async (name, said) => {
    const failure = fuzz(name, 1, FOR_MS, sick, {
      cpuMs: 20_000,
      idleMs: 20_000,
      ...(name === 'loops' && { cpuMs: 1_000 }),
      ...(name === 'waits' && { idleMs: 1_000 }),
    });
    await expect(failure).rejects.toThrow(said);
    await expect(failure).rejects.toThrow(`${name}, seed 1, ${input}`);
  });
});
