import { complaint, generate, judge, waitUntil } from '@nrdot/testbed';
import { type ActResult, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder, rateOf } from './recorder.ts';

const CLASSES = ['critical', 'high', 'normal'] as const;
const WEIGHTS = { critical: 5, high: 3, normal: 1 };
/** Items per second: what the upstream takes, and what is sent. */
const TAKEN = 1_500;
const SENT = 4_500;
const MEASURED_ITEMS = 9_000;
/** Items of each class that wait when measuring begins: what was under way before then has left. */
const BACKLOG = 800;
const LOAD_MS = 12_000;
/** By which a share may be off: a window of a few seconds cuts through batches. */
const TOLERANCE = 0.1;

const SETTINGS = {
  // One batch at a time and no merging, so that shares are seen batch by batch; room for about four seconds.
  exporter: { concurrency: 2, timeout: '20s' },
  scheduler: { export_window: 4, merge_bytes: 1 },
  queue: { max_items: 12_000 },
};

/** Act 2: three times as much as the upstream takes, a third of it of each class. */
export async function overload(play: Performance): Promise<ActResult> {
  const title = 'Priorities under overload';
  play.begin(
    title,
    `The upstream takes ${whole(TAKEN)} spans/s and gets ${whole(SENT)}, a third critical, a third high, a third normal.`,
  );
  await using stage = await play.open(SETTINGS);
  const { mock } = stage;
  mock.set({ itemsPerSecond: TAKEN });
  // Replayed batches would take every other slot, and be of whichever class went to disk first.
  await stage.post('/api/dlq/pause');
  let ended = false;
  using recorder = new Recorder(
    [...CLASSES, 'on disk'],
    async () => ({
      ...Object.fromEntries(CLASSES.map((c) => [c, mock.stats().byClass[c]])),
      'on disk': (await stage.scheduler()).accounting.on_disk,
    }),
    (seen, seconds) =>
      play.progress(
        ended ? 1 : (seconds * 1000) / LOAD_MS,
        `delivered ${CLASSES.map((c) => `${c} ${whole(seen[c] ?? 0)}`).join(', ')}; on disk ${whole(seen['on disk'] ?? 0)}`,
      ),
  );
  const load = generate(
    {
      endpoint: stage.otlp,
      rate: SENT,
      durationMs: LOAD_MS,
      batchSize: 20,
      classes: { critical: 1, high: 1, normal: 1 },
      connections: 8,
    },
    { signal: play.signal },
  );
  await waitUntil(
    async () => {
      const { queued } = (await stage.scheduler()).depth.stages;
      return play.signal.aborted || CLASSES.every((c) => queued[c]!.items > BACKLOG);
    },
    { what: 'every class has a backlog', timeoutMs: LOAD_MS },
  );
  const from = { ...mock.stats().byClass };
  const fromSeconds = recorder.seconds;
  await waitUntil(
    () =>
      play.signal.aborted ||
      mock.stats().items - CLASSES.reduce((sum, c) => sum + from[c], 0) >= MEASURED_ITEMS,
    { what: `${MEASURED_ITEMS} items were delivered`, timeoutMs: LOAD_MS },
  );
  const to = { ...mock.stats().byClass };
  const toSeconds = recorder.seconds;
  const report = await load;
  const metrics = await (await fetch(`${stage.admin}/metrics`)).text();
  ended = true;
  mock.set({ itemsPerSecond: 0 });
  await stage.post('/api/dlq/resume');
  await stage.untilQuiet(60_000);

  const delivered = CLASSES.map((c) => to[c] - from[c]);
  const all = delivered.reduce((sum, items) => sum + items, 0);
  const weightSum = CLASSES.reduce((sum, c) => sum + WEIGHTS[c], 0);
  const shares = delivered.map((items) => (items / all) * weightSum);
  const spilled = CLASSES.map((c) =>
    Number(
      new RegExp(`^apq_spill_total\\{class="${c}",reason="fill"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0,
    ),
  );
  const wrong = complaint(judge(report, mock.received(report.run)));
  return {
    title,
    story: `${whole(report.items)} spans at ${whole(SENT)}/s to an upstream that takes ${whole(TAKEN)}/s; shares over ${whole(all)} items while every class had a backlog.`,
    findings: [
      {
        promise: 'Shares of critical, high and normal are 5 : 3 : 1',
        measured: shares.map((share) => share.toFixed(2)).join(' : '),
        held: CLASSES.every((c, i) => Math.abs(shares[i]! / WEIGHTS[c] - 1) <= TOLERANCE),
      },
      {
        promise: 'What does not fit goes to disk, normal before high before critical',
        measured: CLASSES.map((c, i) => `${c} ${whole(spilled[i]!)}`).join(', '),
        held: spilled[2]! > 0 && spilled[2]! >= spilled[1]! && spilled[1]! >= spilled[0]!,
      },
      {
        promise: 'Everything is delivered once there is room',
        measured: wrong || `${whole(report.acknowledgedItems)} of ${whole(report.items)}`,
        held: wrong === '' && report.acknowledgedItems === report.items,
      },
    ],
    plots: [
      {
        title: 'Delivered, per second',
        unit: '/s',
        series: recorder.series(...CLASSES).map(rateOf),
        marks: [
          [fromSeconds, 'every class waits'],
          [toSeconds, 'measured'],
        ],
      },
    ],
  };
}
