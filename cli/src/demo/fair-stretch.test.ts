import { describe, expect, it } from 'vitest';
import { type ByClass, FairStretch } from './fair-stretch.ts';

const each = (items: number): ByClass => ({ critical: items, high: items, normal: items });

describe('a fair stretch', () => {
  it('counts deliveries while every class has a backlog', () => {
    const stretch = new FairStretch();
    expect(stretch.items).toBe(0);
    stretch.add({ waiting: each(800), moved: each(0), delivered: each(0) });
    stretch.add({ waiting: each(800), moved: each(500), delivered: { critical: 50, high: 30, normal: 10 } });
    stretch.add({ waiting: each(0), moved: each(900), delivered: { critical: 100, high: 60, normal: 20 } });
    expect(stretch.items).toBe(180);
    expect(stretch.delivered).toEqual({ critical: 100, high: 60, normal: 20 });
  });

  it('ends when one class may have run dry, and keeps the longest', () => {
    const stretch = new FairStretch();
    const look = (waiting: number, normal: number, at: number) =>
      stretch.add({ waiting: { ...each(800), normal: waiting }, moved: each(at), delivered: each(normal) });
    look(800, 0, 0);
    look(800, 40, 100);
    look(110, 90, 200);
    look(800, 1_000, 300); // 110 waited and 100 left: nobody knows
    look(800, 1_010, 400);
    expect(stretch.items).toBe(3 * 90);
    look(800, 2_000, 500);
    expect(stretch.items).toBe(3 * 1_000);
  });
});
