import { describe, expect, it } from 'vitest';
import { Destination } from './destination.ts';

const MINUTE = 60_000;

describe('how large a request may be', () => {
  it('is what was configured, until a refusal teaches less; then it grows again with time', () => {
    const destination = new Destination(1_000_000);
    expect(destination.maxBytes(0)).toBe(1_000_000);
    destination.tooLarge(900_000, 0);
    expect(destination.maxBytes(0)).toBe(450_000);
    expect(destination.maxBytes(10 * MINUTE)).toBe(900_000);
    expect(destination.maxBytes(600 * MINUTE)).toBe(1_000_000);
  });

  it('is not less than what was taken, unless that is refused now', () => {
    const destination = new Destination(undefined);
    expect(destination.maxBytes(0)).toBe(Number.POSITIVE_INFINITY);
    destination.took('gzip', 800_000);
    destination.tooLarge(1_040_000, 0);
    expect(destination.maxBytes(0)).toBe(800_000);
    destination.tooLarge(700_000, 0);
    expect(destination.maxBytes(0)).toBe(350_000);
  });

  it('only falls while refusals come, in whatever order those of requests in flight at once arrive', () => {
    const destination = new Destination(undefined);
    destination.tooLarge(100_000, 0);
    destination.tooLarge(1_000_000, 1);
    expect(destination.maxBytes(1)).toBe(50_000);
  });
});

describe('which encoding is sent', () => {
  it('falls back to gzip, then to none', () => {
    const destination = new Destination(undefined);
    expect(destination.encodingFor('zstd')).toBe('zstd');
    destination.refuses('zstd');
    expect(destination.encodingFor('zstd')).toBe('gzip');
    destination.refuses('gzip');
    expect(destination.encodingFor('zstd')).toBe('identity');
    expect(destination.encodingFor('gzip')).toBe('identity');
    destination.refuses('identity');
    expect(destination.encodingFor('identity')).toBe('identity');
  });

  it('a malformed request is tried in another only where the encoding was never taken, and not for ever', () => {
    const destination = new Destination(undefined);
    expect(destination.doubts('zstd')).toBe('gzip');
    expect(destination.doubts('gzip')).toBe('identity');
    expect(destination.doubts('identity')).toBeUndefined();
    destination.took('gzip', 1);
    expect(destination.doubts('gzip')).toBeUndefined();
    for (let i = 0; i < 2; i++) expect(destination.doubts('zstd')).toBe('gzip');
    expect(destination.doubts('zstd')).toBeUndefined();
  });
});
