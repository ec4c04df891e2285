import { expect, it } from 'vitest';
import { RoundTrips } from './round-trips.ts';

it('is slow while responses take several times the minimum, until that becomes the new minimum', () => {
  const trips = new RoundTrips();
  const second = (ms: number) => {
    for (let i = 0; i < 10; i++) trips.add(ms);
    return trips.slow();
  };
  expect(trips.slow()).toBe(false); // nothing came back
  trips.add(90_000);
  expect(trips.slow()).toBe(false); // too little did
  second(90_000);
  for (let s = 0; s < 30; s++) expect(second(700)).toBe(false);
  expect(second(1_400)).toBe(false); // below what is noise
  expect(second(4_000)).toBe(true);
  expect(second(700)).toBe(false);
  const until = Array.from({ length: 200 }, () => second(4_000)).indexOf(false);
  expect(until).toBeGreaterThan(20);
  expect(until).toBeLessThan(90);
});

it('accepts the speed of an upstream that was never faster', () => {
  const trips = new RoundTrips();
  for (let s = 0; s < 60; s++) {
    for (let i = 0; i < 5; i++) trips.add(20_000);
    expect(trips.slow()).toBe(false);
  }
});
