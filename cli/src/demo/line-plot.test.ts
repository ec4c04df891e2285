import { describe, expect, it } from 'vitest';
import { linePlot, niceCeiling } from './line-plot.ts';

describe('a line plot', () => {
  it('has a scale that its highest value fits in', () => {
    expect([0.3, 1, 3, 4.1, 7, 65_536, 1_000_000].map(niceCeiling)).toEqual([
      0.4, 1, 4, 5, 8, 80_000, 1_000_000,
    ]);
  });

  it('leaves a gap where no data was available, and escapes its text', () => {
    const svg = linePlot({
      title: 'a < b',
      unit: '',
      series: [
        {
          name: 'x & y',
          points: [
            [0, 1],
            [0.5, 2],
            [5, 3],
          ],
        },
      ],
      marks: [[1, '"now"']],
    });
    const [, path = ''] = /class="line s0" d="([^"]+)"/.exec(svg)!;
    expect(path.match(/[ML]/g)).toEqual(['M', 'L', 'M']);
    expect(svg).toContain('a &lt; b');
    expect(svg).toContain('x &amp; y');
    expect(svg).toContain('&quot;now&quot;');
  });
});
