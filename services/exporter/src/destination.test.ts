import { describe, expect, it } from 'vitest';
import { Destination } from './destination.ts';

const MINUTE = 60_000;

describe('the maximum size of a request', () => {
  it('is the configured one until a refusal lowers it; then it grows again over time', () => {
    const destination = new Destination(1_000_000);
    expect(destination.maxBytes(0)).toBe(1_000_000);
    destination.tooLarge(900_000, 0);
    expect(destination.maxBytes(0)).toBe(450_000);
    expect(destination.maxBytes(10 * MINUTE)).toBe(900_000);
    expect(destination.maxBytes(600 * MINUTE)).toBe(1_000_000);
  });

  it('never falls below a size that was accepted, unless that size is refused later', () => {
    const destination = new Destination(undefined);
    expect(destination.maxBytes(0)).toBe(Number.POSITIVE_INFINITY);
    destination.took('gzip', 800_000);
    destination.tooLarge(1_040_000, 0);
    expect(destination.maxBytes(0)).toBe(800_000);
    destination.tooLarge(700_000, 0);
    expect(destination.maxBytes(0)).toBe(350_000);
  });

  it('only falls during refusals, in whatever order those of concurrent requests arrive', () => {
    const destination = new Destination(undefined);
    destination.tooLarge(100_000, 0);
    destination.tooLarge(1_000_000, 1);
    expect(destination.maxBytes(1)).toBe(50_000);
  });
});

describe('the encoding of requests', () => {
  it('falls back to gzip, then to uncompressed', () => {
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

  it('after a malformed request, tries another one only if this one was never accepted, and not indefinitely', () => {
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
