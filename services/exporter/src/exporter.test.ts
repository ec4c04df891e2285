import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exported } from '../test/exporter.ts';
import { ConcurrencyLimit } from './concurrency-limit.ts';
import { retryDelayMs } from './retry.ts';

describe('the delay before a retry', () => {
  const policy = {
    initialMs: 100,
    maxMs: 5_000,
    multiplier: 2,
    jitter: 0.5,
    maxAttempts: 8,
    maxRetryAfterMs: 60_000,
  };

  it('grows, has jitter, is bounded, and is never shorter than Retry-After', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.option(fc.integer({ min: 0, max: 1_000_000 }), { nil: undefined }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (attempts, asked, random) => {
          const delay = retryDelayMs(policy, attempts, asked, random);
          expect(delay).toBeGreaterThanOrEqual(Math.min(50 * 2 ** Math.min(attempts - 1, 6), 2_500));
          expect(delay).toBeGreaterThanOrEqual(Math.min(asked ?? 0, policy.maxRetryAfterMs));
          expect(delay).toBeLessThanOrEqual(policy.maxRetryAfterMs * 1.1);
        },
      ),
    );
  });
});

describe('the concurrency limit', () => {
  it('falls after 429 and 503, once per incident, and recovers while it is the bottleneck', () => {
    const limit = new ConcurrencyLimit(1, 16);
    let now = 0;
    expect(limit.current).toBe(16);
    limit.observe('overload', 10, true, now);
    limit.observe('overload', 10, true, now + 1); // the same moment
    expect(limit.current).toBe(11);
    for (let i = 0; i < 50; i++) limit.observe('overload', 10, true, (now += 300));
    expect(limit.current).toBe(1);
    for (let i = 0; i < 20; i++) limit.observe('ok', 10, false, (now += 10)); // nobody waits: no need for more
    expect(limit.current).toBe(1);
    for (let i = 0; i < 200; i++) limit.observe('ok', 10, true, (now += 10));
    expect(limit.current).toBe(16);
  });

  it('falls when the upstream becomes slow, and eventually accepts that as the new baseline', () => {
    const limit = new ConcurrencyLimit(1, 32);
    let now = 0;
    for (let i = 0; i < 50; i++) limit.observe('ok', 20, true, (now += 50));
    expect(limit.current).toBe(32);
    for (let i = 0; i < 60; i++) limit.observe('ok', 800, true, (now += 50));
    expect(limit.current).toBeLessThan(10);
    for (let i = 0; i < 4_000; i++) limit.observe('ok', 800, true, (now += 50));
    expect(limit.current).toBe(32);
  });

  it('always stays within its bounds', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.constantFrom('ok' as const, 'overload' as const),
            fc.nat({ max: 10_000 }),
            fc.boolean(),
          ),
        ),
        (answers) => {
          const limit = new ConcurrencyLimit(2, 9);
          let now = 0;
          for (const [kind, ms, crowded] of answers) limit.observe(kind, ms, crowded, (now += ms));
          expect(limit.current).toBeGreaterThanOrEqual(2);
          expect(limit.current).toBeLessThanOrEqual(9);
        },
      ),
    );
  });
});

it('a batch that cannot be decoded, and whose encoding the upstream refuses, is not sent without end', async () => {
  const sent: string[] = [];
  await exported([Buffer.from('no zstd')], 'zstd', async (_, encoding) => {
    sent.push(encoding);
    if (sent.length > 10) return { kind: 'delivered', refusedItems: 0, message: '' };
    return { kind: 'rejected', reason: 'refused', status: 415, message: 'no zstd here' };
  });
  expect(sent).toEqual(['zstd', 'zstd']);
});
