import { describe, expect, it } from 'vitest';
import { judgeTotals, MetricLedger, metricsRequest, type SeriesPoint, type SeriesValue } from './index.ts';

type Kind = SeriesPoint['kind'];
/** `start → time: value`, in seconds. */
type Row = [start: number, time: number, value: SeriesValue];

const SECOND_NS = 1_000_000_000n;
const RESOURCE = { 'service.name': 'shop', 'service.instance.id': 'a' };

function request(kind: Kind, rows: readonly Row[], labels: Record<string, string> = {}): Buffer {
  const points = rows.map(([start, time, value]) => ({
    name: 'requests',
    kind,
    labels,
    start: BigInt(start) * SECOND_NS,
    time: BigInt(time) * SECOND_NS,
    value,
  }));
  return metricsRequest(RESOURCE, points);
}

/** The parts of the one total there is, as numbers. */
function totalOf(kind: Kind, rows: readonly Row[]): Record<string, string> {
  const ledger = new MetricLedger();
  // One request each, the last first: what counts are the times.
  for (const row of rows.toReversed()) ledger.take(request(kind, [row]));
  const [group] = ledger.groups([]).values();
  return Object.fromEntries([...group!.total.parts].map(([name, size]) => [name, String(size >> 1_074n)]));
}

function faultsOf(kind: Kind, rows: readonly Row[]): string[] {
  const ledger = new MetricLedger();
  for (const row of rows) ledger.take(request(kind, [row]));
  return [...ledger.faults().values()].flat();
}

describe('the total of one stream', () => {
  it.each<[string, Kind, Row[], string]>([
    ['a first value counts whole', 'counter', [[1, 2, 7]], '7'],
    [
      'rises are added',
      'counter',
      [
        [1, 2, 7],
        [1, 3, 9],
        [1, 4, 9],
      ],
      '9',
    ],
    [
      'the same point counts once',
      'counter',
      [
        [1, 2, 7],
        [1, 2, 7],
        [1, 3, 9],
        [1, 3, 9],
      ],
      '9',
    ],
    [
      'another start is a reset',
      'counter',
      [
        [1, 2, 7],
        [3, 4, 2],
        [3, 5, 5],
      ],
      '12',
    ],
    [
      'another start is a reset, though the value is higher',
      'counter',
      [
        [1, 2, 7],
        [3, 4, 20],
      ],
      '27',
    ],
    [
      'a start that moves, but not beyond the last time, too',
      'counter',
      [
        [1, 5, 7],
        [3, 6, 20],
      ],
      '27',
    ],
    [
      'a value that fell is a reset',
      'counter',
      [
        [1, 2, 7],
        [1, 3, 2],
        [1, 4, 4],
      ],
      '11',
    ],
    [
      'halves and quarters are exact',
      'double counter',
      [
        [1, 2, 0.25],
        [3, 4, 0.75],
      ],
      '1',
    ],
    [
      'what is not a number is left out',
      'double counter',
      [
        [1, 2, 4],
        [1, 3, Number.NaN],
        [1, 4, 6],
      ],
      '6',
    ],
    [
      'of a level the last value counts',
      'level',
      [
        [1, 2, 7],
        [1, 3, 4],
      ],
      '4',
    ],
    [
      'of a level whose source was reset too',
      'level',
      [
        [1, 2, 7],
        [3, 4, 2],
      ],
      '2',
    ],
    [
      'deltas are added',
      'delta',
      [
        [1, 2, 7],
        [2, 3, 4],
      ],
      '11',
    ],
    [
      'a delta counts as often as it comes',
      'delta',
      [
        [1, 2, 7],
        [1, 2, 7],
      ],
      '14',
    ],
  ])('%s', (_what, kind, rows, total) => {
    expect(totalOf(kind, rows)).toEqual({ value: total });
  });

  it('of a level is nothing once its source is gone', () => {
    expect(
      totalOf('level', [
        [1, 2, 7],
        [1, 3, 'stale'],
      ]),
    ).toEqual({});
  });

  it('of a histogram is its count, its sum and each bucket', () => {
    const rows: Row[] = [
      [1, 2, new Map([[2, 3]])],
      [
        1,
        3,
        new Map([
          [2, 3],
          [100, 1],
        ]),
      ],
      [4, 5, new Map([[2, 1]])],
    ];
    expect(totalOf('histogram', rows)).toEqual({ count: '5', sum: '108', '(1, 4]': '4', '(64, ∞]': '1' });
  });

  it('of an exponential histogram is the same at any scale', () => {
    const fine = new Map([
      [3, 2],
      [5, 1],
    ]);
    const wide = new Map([
      [1, 1],
      [1_024, 2],
    ]);
    const [counted, received] = [new MetricLedger(), new MetricLedger()];
    counted.take(request('exponential histogram', [[1, 2, fine]], { user: 'a' }));
    counted.take(request('exponential histogram', [[1, 2, wide]], { user: 'b' }));
    received.take(request('exponential histogram', [[1, 3, new Map([...fine, ...wide])]]));
    const expectation = { counted, atMost: counted, kept: [] };
    expect(judgeTotals(received, expectation)).toEqual([]);
    received.take(request('exponential histogram', [[1, 4, new Map([...fine, ...wide, [7, 1]])]]));
    expect(judgeTotals(received, expectation).join()).toMatch(
      /count is 7 instead of 6.*bucket \+2 at scale 0 is 2/,
    );
  });
});

describe('detects a stream that no single writer could have written', () => {
  it.each<[string, Kind, Row[], RegExp | undefined]>([
    [
      'one writer',
      'counter',
      [
        [1, 2, 7],
        [1, 3, 9],
        [4, 5, 1],
      ],
      undefined,
    ],
    [
      'two with a start each',
      'counter',
      [
        [1, 3, 7],
        [2, 4, 7],
        [1, 5, 9],
      ],
      /a start comes back/,
    ],
    [
      'two with the same start',
      'counter',
      [
        [1, 3, 7],
        [1, 4, 2],
        [1, 5, 9],
      ],
      /fell without a new start/,
    ],
    [
      'two at the same time',
      'counter',
      [
        [1, 3, 7],
        [1, 3, 9],
      ],
      /two values at the time/,
    ],
    ['a merge with what is not a number', 'double counter', [[1, 3, Number.NaN]], /not finite/],
  ])('%s', (_what, kind, rows, fault) => {
    const faults = faultsOf(kind, rows);
    if (fault) expect(faults.join()).toMatch(fault);
    else expect(faults).toEqual([]);
  });
});

describe('the output is compared with what was counted', () => {
  const sources: [user: string, rows: Row[]][] = [
    [
      'a',
      [
        [1, 2, 10],
        [1, 4, 30],
      ],
    ],
    [
      'b',
      [
        [1, 3, 5],
        [4, 5, 2],
      ],
    ],
  ];

  function judge(out: readonly Buffer[], sent = sources): string[] {
    const [counted, received] = [new MetricLedger(), new MetricLedger()];
    for (const [user, rows] of sent) counted.take(request('counter', rows, { user, route: '/' }));
    for (const body of out) received.take(body);
    return judgeTotals(received, { counted, atMost: counted, kept: ['route'] });
  }
  const merged = (rows: readonly Row[], writer = 'r1') => request('counter', rows, { route: '/', writer });

  it.each<[string, Buffer[], RegExp | undefined]>([
    [
      'merged into one',
      [
        merged([
          [1, 4, 35],
          [1, 5, 37],
        ]),
      ],
      undefined,
    ],
    ['merged by two writers', [merged([[1, 4, 30]]), merged([[1, 5, 7]], 'r2')], undefined],
    [
      'forwarded, then merged',
      [request('counter', [[1, 2, 10]], { user: 'a', route: '/' }), merged([[3, 5, 27]])],
      undefined,
    ],
    [
      'a writer that was reset',
      [
        merged([
          [1, 4, 30],
          [5, 6, 7],
        ]),
      ],
      undefined,
    ],
    ['an increment was lost', [merged([[1, 5, 32]])], /value is 32 instead of 37/],
    ['an increment counted twice', [merged([[1, 5, 42]])], /value is 42 instead of 37/],
    ['all of it twice', [merged([[1, 5, 37]]), merged([[1, 5, 37]], 'r2')], /value is 74 instead of 37/],
    [
      'forwarded and merged',
      [request('counter', [[1, 4, 30]], { user: 'a', route: '/' }), merged([[1, 5, 37]])],
      /value is 67/,
    ],
    ['nothing came', [], /value is 0 instead of 37/],
    ['two writers in one stream', [merged([[1, 4, 30]]), merged([[1, 5, 7]])], /fell without a new start/],
    ['another route', [request('counter', [[1, 5, 37]], { route: '/x' })], /nobody sent it/],
  ])('%s', (_what, out, complaint) => {
    const complaints = judge(out).join('\n');
    if (complaint) expect(complaints).toMatch(complaint);
    else expect(complaints).toBe('');
  });

  it('a delta whose answer was lost may have arrived at most twice', () => {
    const [counted, atMost] = [new MetricLedger(), new MetricLedger()];
    const body = request('delta', [[1, 2, 5]]);
    counted.take(body);
    for (const ledger of [atMost, atMost]) ledger.take(body);
    const judged = (times: number) => {
      const received = new MetricLedger();
      for (let n = 0; n < times; n += 1) received.take(body);
      return judgeTotals(received, { counted, atMost, kept: [] });
    };
    expect([1, 2].map(judged)).toEqual([[], []]);
    expect(judged(0).join()).toMatch('value is 0 instead of 5 to 10');
    expect(judged(3).join()).toMatch('value is 15 instead of 5 to 10');
  });

  it('a gauge has only values that were sent', () => {
    const counted = new MetricLedger();
    counted.take(request('gauge', [[0, 2, 5]], { user: 'a' }));
    const judged = (value: number) => {
      const received = new MetricLedger();
      received.take(request('gauge', [[0, 2, value]]));
      return judgeTotals(received, { counted, atMost: counted, kept: [] });
    };
    expect(judged(5)).toEqual([]);
    expect(judged(6).join()).toMatch(/1 readings nobody sent/);
  });
});
