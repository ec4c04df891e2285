import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { equals, fromBinary } from '@bufbuild/protobuf';
import { walk } from '@nrdot/otlp';
import { describe, expect, it } from 'vitest';
import { referenceRequest } from '../../../../shared/otlp/test/reference.ts';
import { CardinalityLimiter } from './index.ts';
import { limiterOptions } from './test/options.ts';
import { encode, type MetricData, type PointData, request } from './test/otlp.ts';
import { byStream, rig, START_MS, total } from './test/rig.ts';
import { isRegular, normalise } from './wire/normalise.ts';

const metricsRequest = referenceRequest('metrics');

function storm(
  from: number,
  count: number,
  name = 'http.requests',
  extra: Partial<MetricData> = {},
): MetricData {
  const points: PointData[] = Array.from({ length: count }, (_, i) => ({
    labels: { route: `/r${i % 6}`, user: `u${from + i}` },
    int: 3n,
    start: 5n,
    time: 10n + BigInt(from),
  }));
  return { name, unit: '1', kind: 'sum', temporality: 1, monotonic: true, points, ...extra };
}

describe('CardinalityLimiter', () => {
  it('forwards known and admitted key-sets byte for byte', () => {
    const { send, limiter } = rig({});
    for (let round = 0; round < 3; round++) {
      const sent = send([storm(0, 100)]);
      expect(sent).toMatchObject({ unchanged: true, points: 100, droppedPoints: 0, aggregatedPoints: 0 });
    }
    expect(limiter.keysUsed).toBe(100);
  });

  it('distinguishes key-sets by resource, scope, name, unit, type, temporality and monotonicity, not by order', () => {
    const { limiter } = rig({});
    const point = { labels: { a: '1', b: '2' }, int: 1n, time: 1n };
    const metric: MetricData = { name: 'm', kind: 'sum', temporality: 1, monotonic: true, points: [point] };
    const of = (resource: object, scope: object, change: Partial<MetricData>) =>
      encode([
        {
          labels: { service: 's' },
          ...resource,
          scopes: [{ name: 'lib', ...scope, metrics: [{ ...metric, ...change } as MetricData] }],
        },
      ]);
    const bodies = [
      of({}, {}, {}),
      of({ labels: { service: 't' } }, {}, {}),
      of({}, { name: 'lib2' }, {}),
      of({}, { labels: { x: 'y' } }, {}),
      of({}, {}, { name: 'n' }),
      of({}, {}, { unit: 's' }),
      of({}, {}, { kind: 'gauge', temporality: undefined, monotonic: undefined }),
      of({}, {}, { temporality: 2 }),
      of({}, {}, { monotonic: false }),
      of({}, {}, { points: [{ ...point, labels: { a: '2', b: '1' } }] }),
      of({ labels: { service: 's', a: '1' } }, {}, { points: [{ ...point, labels: { b: '2' } }] }),
    ];
    bodies.forEach((body, i) => {
      limiter.process(body);
      expect(limiter.keysUsed).toBe(i + 1);
    });
    limiter.process(of({}, {}, { points: [{ ...point, labels: { b: '2', a: '1' } }] }));
    limiter.process(of({}, {}, { description: 'says nothing about identity' }));
    expect(limiter.keysUsed).toBe(bodies.length);
  });

  it('drops new key-sets of a critical label, and reports metric, label and reason', () => {
    const { send, limiter, decisions } = rig({ maxKeys: 1024, aggregateScore: 0.8, criticalScore: 0.8 });
    const known = storm(0, 500, 'calm', {});
    known.points = known.points.slice(0, 80);
    let sent = 0n;
    let received = 0n;
    let dropped = 0;
    for (let i = 0; i < 40; i++) {
      const limited = send([known, storm(1000 + i * 100, 100)]);
      sent += 180n * 3n;
      received += total(limited.out.map((point) => point.int));
      dropped += limited.droppedPoints;
      expect(limited.points).toBe(limited.out.length);
      expect(limited.out.filter((point) => point.metric.name === 'calm').length).toBe(80);
      if (i === 39) {
        expect(limited.dropped).toEqual([
          { metric: 'http.requests', label: 'user', reason: 'critical', count: 100 },
        ]);
      }
    }
    expect(sent - received).toBe(3n * BigInt(dropped));
    expect(limiter.keysUsed).toBeLessThanOrEqual(1024);
    expect(decisions.map(({ kind, label }) => `${kind} ${label}`)).toEqual(['drop user']); // once, not per point
    expect(limiter.report().totals.dropped).toEqual({ critical: dropped });
  });

  it('merges them into one overflow stream per metric if so configured', () => {
    const options = {
      maxKeys: 1024,
      aggregateScore: 0.8,
      criticalScore: 0.8,
      criticalAction: 'overflow' as const,
    };
    const { send } = rig(options);
    let sent = 0n;
    let received = 0n;
    for (let i = 0; i < 40; i++) {
      const limited = send([storm(i * 100, 100)]);
      sent += 300n;
      received += total(limited.out.map((point) => point.int));
      expect(limited.droppedPoints).toBe(0);
      if (i === 39) {
        expect(limited).toMatchObject({ points: 1, aggregatedPoints: 99, overflowPoints: 100 });
        expect(limited.out[0]!.labels).toEqual({ 'otel.metric.overflow': true });
      }
    }
    expect(received).toBe(sent);
  });

  it('strips the label with the highest score, and totals stay correct', () => {
    const { send, decisions, limiter } = rig({ maxKeys: 1024 });
    let sent = 0n;
    let received = 0n;
    for (let i = 0; i < 40; i++) {
      const limited = send([storm(i * 100, 100)]);
      sent += 300n;
      received += total(limited.out.map((point) => point.int));
      if (i === 39) {
        expect(limited).toMatchObject({ points: 6, aggregatedPoints: 94, droppedPoints: 0 });
        expect(limited.out.map(({ labels }) => labels)).toEqual(
          [0, 1, 2, 3, 4, 5].map((r) => ({ route: `/r${r}` })),
        );
      }
    }
    expect(received).toBe(sent);
    expect(decisions.map(({ kind, label }) => `${kind} ${label}`)).toEqual(['aggregate user']);
    expect(limiter.report().topMetrics[0]).toMatchObject({ metric: 'http.requests', removed: ['user'] });
    expect(limiter.report().topLabels[0]).toMatchObject({ label: 'user', removed: true });
  });

  it('never strips protected labels, and applies overrides by metric', () => {
    const overrides = [{ metric: 'keep.*', protectedLabels: ['user'] }];
    const { send, limiter } = rig({ maxKeys: 1024, overrides });
    for (let i = 0; i < 30; i++) send([storm(i * 50, 50, 'keep.this'), storm(i * 50, 50, 'other')]);
    const limited = send([storm(90_000, 10, 'keep.this'), storm(90_000, 10, 'other')]);
    const names = limited.out.map((point) => point.metric.name);
    expect(limited.dropped).toEqual([{ metric: 'keep.this', label: 'route', reason: 'full', count: 10 }]);
    expect(names.every((name) => name === 'other')).toBe(true);
    expect(limiter.report().topMetrics.find(({ metric }) => metric === 'other')!.removed).toEqual(['user']);
  });

  it('decides but changes nothing in observe mode', () => {
    const observing = rig({ maxKeys: 1024, mode: 'observe' });
    for (let i = 0; i < 40; i++) {
      expect(observing.send([storm(i * 100, 100)])).toMatchObject({ unchanged: true, droppedPoints: 0 });
    }
    expect(observing.decisions.map(({ kind, enforced }) => ({ kind, enforced }))).toEqual([
      { kind: 'aggregate', enforced: false },
    ]);
    expect(observing.limiter.report().totals.observedAggregated).toBeGreaterThan(3000);
  });

  it('keeps hot key-sets through a storm of unique ones, within its key and memory limits', () => {
    const { limiter } = rig({ criticalScore: 0.9 });
    const hot = request([storm(5_000_000, 1000, 'hot')]);
    limiter.process(hot);
    for (let i = 0; i < 150; i++) {
      const limited = limiter.process(request([storm(i * 1000, 1000)]));
      expect(limiter.keysUsed).toBeLessThanOrEqual(65_536);
      if (i % 25 === 0) expect(limiter.process(hot).body).toBe(hot);
      if (i === 149) expect(limited.droppedPoints + limited.aggregatedPoints).toBeGreaterThan(990);
    }
    expect(limiter.memoryBytes).toBeLessThan(9e6);
  });

  it('forgets key-sets not seen for key_ttl, and admits new ones again', () => {
    const made = rig({ maxKeys: 1024, criticalScore: 0.75, keyTtlMs: 60_000 });
    for (let i = 0; i < 20; i++) made.send([storm(i * 100, 100)]);
    expect(made.send([storm(9000, 10)]).droppedPoints).toBe(10);
    made.now += 61_000;
    for (let i = 0; i < 200; i++) made.send([]);
    made.now += 1000;
    made.send([]);
    expect(made.limiter.keysUsed).toBeLessThan(512);
    expect(made.send([storm(9000, 10)]).droppedPoints).toBe(0);
    expect(made.limiter.report().evictions.keys).toBeGreaterThan(0);
    expect(made.decisions.map(({ kind }) => kind)).toEqual(['drop', 'calm']);
  });

  it.each(['point', 'resource'] as const)(
    'strips a listed label of a %s that finds the table full, although a metric of few key-sets has no scores',
    (place) => {
      const made = rig({ maxKeys: 256, actAbove: 0.5, aggregateLabels: ['user'], keyTtlMs: 60_000 });
      const other = Array.from({ length: 300 }, (_, i) => ({
        labels: { x: `${i}` },
        double: 1,
        time: made.ns(),
      }));
      made.send([{ name: 'full', kind: 'gauge', points: other }]);
      const users = Array.from({ length: 12 }, (_, i) => ({ user: `u${i}` }));
      const sent = users.flatMap((user, i) => {
        const labels = { route: `r${i % 2}`, ...(place === 'point' ? user : {}) };
        const points = [{ labels, int: 1n, time: made.ns() }];
        const metric: MetricData = { name: 'small', kind: 'sum', temporality: 1, monotonic: true, points };
        return made.send([metric], place === 'resource' ? user : {}).out;
      });
      expect(made.decisions.filter(({ metric }) => metric === 'small')).toMatchObject([
        { kind: 'aggregate', label: 'user', why: 'the table is full' },
      ]);
      expect(new Set(sent.map(({ labels }) => labels.route))).toEqual(new Set(['r0', 'r1']));
      expect(sent.some(({ labels }) => 'user' in labels)).toBe(false);
      expect(total(sent.map(({ int }) => int))).toBe(12n);
    },
  );

  it('restores a label that has been harmless for long enough', () => {
    const made = rig({ maxKeys: 1024, keyTtlMs: 10_000 });
    for (let i = 0; i < 20; i++) made.send([storm(i * 100, 100)]);
    expect(made.decisions.map(({ kind }) => kind)).toEqual(['aggregate']);
    for (let i = 0; i < 60; i++) {
      made.now += 1000;
      made.send([storm(0, 8)]);
    }
    expect(made.decisions.map(({ kind }) => kind)).toEqual(['aggregate', 'restore']);
    expect(made.send([storm(0, 8)])).toMatchObject({ unchanged: true, points: 8 });
  });

  it('does not restore a label whose score has fallen only a little: 0.66 after 0.75', () => {
    const made = rig({ maxKeys: 1024, keyTtlMs: 10_000 });
    for (let i = 0; i < 20; i++) made.send([storm(i * 100, 100)]);
    for (let i = 0; i < 60; i++) {
      made.now += 1000;
      made.send([storm(0, 100)]);
    }
    const { score } = made.limiter.report().topLabels.find(({ label }) => label === 'user')!;
    expect(score).toBeGreaterThan(0.61);
    expect(score).toBeLessThan(0.74);
    expect(made.decisions.map(({ kind }) => kind)).toEqual(['aggregate']);
  });

  it('does not restore a label of merged counters: their streams would repeat what was merged', () => {
    const made = rig({ maxKeys: 1024, keyTtlMs: 10_000 });
    const counters = (from: number, count: number) => storm(from, count, 'c', { temporality: 2 });
    for (let i = 0; i < 20; i++) made.send([counters(i * 100, 100)]);
    for (let i = 0; i < 60; i++) {
      made.now += 1000;
      made.send([counters(0, 8)]);
    }
    expect(made.decisions.map(({ kind }) => kind)).toEqual(['aggregate']);
    made.limiter.configure(limiterOptions({ maxKeys: 1024, protectedLabels: ['user'] }));
    expect(made.limiter.report().topMetrics[0]!.removed).toEqual([]);
  });

  it('takes at most ten megabytes with every table full', () => {
    const made = rig({ aggregateLabels: ['user'], actAbove: 0 });
    const collectGarbage = exposedGc();
    const heap = () => {
      collectGarbage();
      return process.memoryUsage().heapUsed;
    };
    const before = heap();
    // Counters of which every one is a source, and every eighth its own output; then names without end.
    for (let i = 0; i < 45; i++) {
      const points = Array.from({ length: 1000 }, (_, k) => ({
        labels: { user: `u${i}-${k}`, session: `s${(i * 1000 + k) >> 3}` },
        int: 1n,
        start: made.ns(),
        time: made.ns() + 1000n,
      }));
      made.send([{ name: 'c', kind: 'sum', temporality: 2, monotonic: true, points }]);
    }
    for (let i = 0; i < 60; i++) {
      made.send(Array.from({ length: 100 }, (_, k) => storm(0, 1, `metric.name.number.${i}.${k}`)));
    }
    const { tracker, keysUsed } = made.limiter.report();
    expect(tracker.sources).toBeGreaterThan(20_000);
    expect(keysUsed).toBeGreaterThan(5000);
    expect(made.limiter.memoryBytes).toBeLessThan(10e6);
    expect(made.limiter.memoryBytes + heap() - before).toBeLessThan(16e6);
  });

  it('counts the keys of all receivers, and knows those that others admitted', () => {
    const { send, limiter } = rig({ maxKeys: 1024, criticalAction: 'drop' });
    const first = send([storm(0, 100)]);
    expect(first.claim.keys.length).toBe(100 * 8);
    limiter.learnTotals(1024, 0);
    expect(send([storm(1000, 50)]).points).toBe(0);
    expect(send([storm(0, 100)]).unchanged).toBe(true);
    const other = rig({ maxKeys: 1024, criticalAction: 'drop' });
    other.limiter.learnTotals(1024, 0);
    other.limiter.learnKeys(first.claim.keys);
    expect(other.send([storm(0, 100)]).unchanged).toBe(true);
    expect(other.send([storm(1000, 50)])).toMatchObject({ points: 0, claim: { hasRefused: true } });
    other.limiter.learnTotals(400, 0);
    expect(other.send([storm(1000, 50)]).unchanged).toBe(true);
  });

  it('reports its keys to Redis once per generation', () => {
    const made = rig({ maxKeys: 1024 });
    expect(made.send([storm(0, 10)]).claim).toMatchObject({
      keys: { length: 80 },
      remembered: { length: 0 },
    });
    made.now += 5000;
    made.send([storm(0, 10)]);
    made.limiter.beginGeneration();
    made.now += 5000;
    expect(made.send([storm(0, 4)]).claim).toMatchObject({ keys: { length: 0 }, remembered: { length: 32 } });
    expect(made.send([storm(0, 4)]).claim.remembered.length).toBe(0);
    expect(made.send([storm(0, 10)]).claim.remembered.length).toBe(48);
  });

  it('applies new options while running', () => {
    const { send, limiter } = rig({ maxKeys: 1024 });
    send([storm(0, 300)]);
    limiter.configure(limiterOptions({ maxKeys: 2048, mode: 'observe' }));
    expect(limiter.keysLimit).toBe(2048);
    expect(limiter.keysUsed).toBe(300);
    expect(send([storm(0, 300)]).unchanged).toBe(true);
    expect(limiter.keysUsed).toBe(300);
    limiter.configure(limiterOptions({ maxKeys: 100 }));
    expect(limiter.keysUsed).toBe(100);
  });

  it('removes messages that lost all points, and keeps the rest byte for byte', () => {
    const made = rig({ maxKeys: 64, criticalScore: 0.5, aggregateScore: 0.5, actAbove: 0.25 });
    for (let i = 0; i < 8; i++) made.send([storm(i * 8, 8, 'bad')]);
    const good = { ...storm(0, 2, 'good'), description: 'stays' };
    const resource = { labels: { service: 'a' }, schemaUrl: 'https://example.org/1' };
    const both = encode([
      { labels: { service: 'gone' }, scopes: [{ metrics: [storm(900, 5, 'bad')] }] },
      {
        ...resource,
        scopes: [{ metrics: [storm(800, 5, 'bad')] }, { name: 's', metrics: [storm(700, 5, 'bad'), good] }],
      },
    ]);
    const limited = made.limiter.process(both);
    expect(limited.points).toBe(2);
    const expected = encode([{ ...resource, scopes: [{ name: 's', metrics: [good] }] }]);
    expect(Buffer.from(limited.body).equals(expected)).toBe(true);
    const nothing = made.limiter.process(
      encode([{ labels: {}, scopes: [{ metrics: [storm(600, 5, 'bad')] }] }]),
    );
    expect(nothing).toMatchObject({ points: 0, droppedPoints: 5 });
    expect(nothing.body.length).toBe(0);
  });

  it('writes requests that other parsers accept and that a second pass does not change', () => {
    const options = limiterOptions({ maxKeys: 1024, criticalScore: 1 });
    const [first, second] = [rig(options, 1), rig(options, 2)];
    for (let i = 0; i < 60; i++) {
      const body = request([
        storm(i * 100, 100),
        storm(i * 100, 30, 'g', { kind: 'gauge', temporality: undefined, monotonic: undefined }),
      ]);
      const limited = first.limiter.process(body);
      expect(walk('metrics', limited.body).items).toBe(limited.points);
      fromBinary(metricsRequest, limited.body);
      // The second has seen the storm itself, and now gets what the first one left of it.
      second.limiter.process(body);
      if (i < 30) continue;
      const again = new CardinalityLimiter(options, { now: () => START_MS, seed: 3 }).process(limited.body);
      expect(again.body).toBe(limited.body);
    }
    const quiet = rig({ ...options, maxKeys: 65_536 });
    expect(quiet.send([storm(0, 100)]).unchanged).toBe(true);
  });

  it('reads messages in pieces, and joins them only if it has to change something', () => {
    const a = request([storm(0, 40)]);
    const b = request([storm(40, 40)]);
    const { limiter } = rig({ maxKeys: 1024 });
    // Two resource fields in one ResourceMetrics, and a Metric with a gauge before its sum.
    const resource = (key: number) => [0x0a, 9, 0x0a, 7, 0x0a, 1, key, 0x12, 2, 0x18, 1];
    const point = [0x0a, 9, 0x31, 1, 0, 0, 0, 0, 0, 0, 0];
    const gauge = [0x2a, point.length, ...point];
    const sum = [0x3a, point.length + 2, ...point, 0x10, 1];
    const metric = [0x0a, 1, 0x6d, ...sum, ...gauge, ...sum, ...sum];
    const scope = [0x12, metric.length, ...metric];
    const content = [...resource(0x61), 0x12, scope.length, ...scope, ...resource(0x62)];
    const odd = Uint8Array.from([0x0a, content.length, ...content]);
    expect(isRegular(odd)).toBe(false);
    expect(
      equals(metricsRequest, fromBinary(metricsRequest, normalise(odd)), fromBinary(metricsRequest, odd)),
    ).toBe(true);
    expect(limiter.process(odd)).toMatchObject({ body: odd, points: 2 });
    expect(limiter.keysUsed).toBe(1);
    const merged = Buffer.concat([a, b]); // requests merge by putting their bytes together
    expect(limiter.process(merged)).toMatchObject({ body: merged, points: 80 });
  });

  it('accepts an empty request, and one without points', () => {
    const { limiter } = rig({});
    expect(limiter.process(new Uint8Array(0))).toMatchObject({ points: 0, droppedPoints: 0 });
    const hollow = request([{ name: 'm', kind: 'sum', temporality: 1, points: [] }]);
    expect(limiter.process(hollow)).toMatchObject({ body: hollow, points: 0 });
  });

  it('uses hashes that differ between processes', () => {
    const one = rig({ maxKeys: 64 }, 1);
    const two = rig({ maxKeys: 64 }, 2);
    for (const made of [one, two]) made.send([storm(0, 10)]);
    expect(byStream(one.send([storm(0, 10)]).out, () => 1).size).toBe(10);
    expect(two.limiter.keysUsed).toBe(one.limiter.keysUsed);
  });
});

/** What V8 hides unless it is started with a flag. */
function exposedGc(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
