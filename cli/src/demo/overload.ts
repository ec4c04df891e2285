import { byClass, CLASSES } from '@nrdot/queue/priority-class';
import { complaint, generate, judge, waitUntil } from '@nrdot/testbed';
import { type ByClass, FairStretch } from './fair-stretch.ts';
import { type ActResult, type Finding, finding, unmeasured, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder, rateOf } from './recorder.ts';
import type { Stage } from './stage.ts';

/** The promise that is measured, so not read from the options: with other weights the demo fails. */
const WEIGHTS: ByClass = { critical: 5, high: 3, normal: 1 };
/** Items sent per second, and the share of those received that the upstream accepts. */
const SENT = 4_500;
const TAKEN_SHARE = 1 / 3;
/** Items per second that the upstream accepts until every class has a backlog. */
const CRAWL = 100;
/** Items of each class that must be waiting when the measurement begins. */
const BACKLOG = 800;
/** Items to measure shares over; fewer on a slow machine. */
const MEASURED_ITEMS = 9_000;
const ENOUGH_ITEMS = 4_000;
/** Tolerance of a share, since both ends of the measurement split batches. */
const TOLERANCE = 0.1;
/** How long a slow machine may take: until every class waits, until the queue is full, for measuring, and for the rest. */
const BACKLOG_MS = 15_000;
const FULL_MS = 20_000;
const MEASURE_MS = 25_000;
const QUIET_MS = 30_000;
/** For the progress line. */
const USUAL_SECONDS = 14;
const SNAPSHOT_MS = 200;
const BATCH = 20;
const CONNECTIONS = 8;
/** Maximum number of items that may arrive at once, possibly of a single class. */
const STEP_ITEMS = BATCH * CONNECTIONS;
/** Fill level from which normal spills, and one at which it certainly has. */
const SPILL_AT = 0.95;
const SURELY_SPILLED_AT = 0.98;

const SETTINGS = {
  // Single batches without merging, so that shares are visible batch by batch; room for about three seconds.
  exporter: { concurrency: 2, timeout: '20s' },
  scheduler: { export_window: 4, merge_bytes: 1 },
  queue: { max_items: 9_000 },
};

/** Act 2: three times as much as the upstream accepts, a third of it of each class. */
export async function overload(play: Performance): Promise<ActResult> {
  const title = 'Priorities under overload';
  play.begin(
    title,
    `The upstream accepts ${whole(SENT * TAKEN_SHARE)} spans/s but is sent ${whole(SENT)}, a third each critical, high and normal.`,
  );
  await using stage = await play.open(SETTINGS);
  const { mock } = stage;
  mock.set({ itemsPerSecond: CRAWL });
  // Replayed batches would take every other time slot, with whichever class spilled first.
  await stage.post('/api/dlq/pause');
  let phase = 'the queue fills';
  using recorder = new Recorder(
    async () => ({
      ...byClass((c) => mock.stats().byClass[c]),
      'on disk': (await stage.scheduler()).accounting.on_disk,
    }),
    (seen, seconds) =>
      play.progress(
        seconds / USUAL_SECONDS,
        `${phase}: delivered ${CLASSES.map((c) => `${c} ${whole(seen[c] ?? 0)}`).join(', ')}; on disk ${whole(seen['on disk'] ?? 0)}`,
      ),
  );
  const over = new AbortController();
  let takenPerSecond = 0;
  const load = generate(
    {
      ...{ endpoint: stage.otlp, rate: SENT, batchSize: BATCH, connections: CONNECTIONS },
      classes: { critical: 1, high: 1, normal: 1 },
    },
    {
      signal: play.signal,
      finish: over.signal,
      progress: ({ acknowledgedItems, elapsedMs }) => {
        takenPerSecond = (acknowledgedItems * 1000) / elapsedMs;
      },
    },
  );
  const seen = new Measurement(stage);
  const until = async (what: string, condition: () => boolean, timeoutMs: number) => {
    const met = async () => {
      await seen.take();
      return play.signal.aborted || condition();
    };
    await waitUntil(met, { what, timeoutMs, everyMs: SNAPSHOT_MS }).catch(() => {}); // shown in the findings
  };
  await until('every class waits', () => seen.waiting > BACKLOG && takenPerSecond > 0, BACKLOG_MS);
  const fromSeconds = recorder.seconds;
  // On a machine that cannot send that much, the upstream accepts less, so that it is an overload everywhere.
  const upstream = Math.max(CRAWL, Math.min(SENT, takenPerSecond) * TAKEN_SHARE);
  mock.set({ itemsPerSecond: upstream });
  await until('the queue is full', () => seen.spilled.normal > 0, FULL_MS);
  // From here on every class has a lasting backlog, whatever arrives.
  mock.set({ itemsPerSecond: SENT * TAKEN_SHARE });
  phase = 'shares are measured';
  const enough = () =>
    seen.stretch.items >= MEASURED_ITEMS || (seen.stretch.items >= ENOUGH_ITEMS && seen.waiting === 0);
  await until('enough was measured', enough, MEASURE_MS);
  const toSeconds = recorder.seconds;
  phase = 'the rest is delivered';
  over.abort();
  const report = await load;
  await seen.take();
  mock.set({ itemsPerSecond: 0 });
  await stage.post('/api/dlq/resume');
  const { doubt } = await stage.untilQuiet(QUIET_MS);
  const wrong = complaint(judge(report, mock.received(report.run)));
  return {
    title,
    story: `${whole(report.items)} spans, up to ${whole(SENT)}/s, to an upstream that accepts ${whole(upstream)}/s; shares over ${whole(seen.stretch.items)} items while every class had a backlog.`,
    findings: [
      shares(seen),
      spillOrder(seen),
      finding(
        'Everything is delivered once there is room',
        wrong || `${whole(report.acknowledgedItems)} of ${whole(report.items)}`,
        wrong === '' && report.acknowledgedItems === report.items,
        doubt,
      ),
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

/** Observations of the overload, snapshot by snapshot. */
class Measurement {
  readonly stretch = new FairStretch();
  /** Maximum fill level seen, 0 to 1. */
  fill = 0;
  /** Waiting items of the class with the fewest. */
  waiting = 0;
  /** Items spilled because the queue was full. */
  spilled: ByClass = { critical: 0, high: 0, normal: 0 };
  readonly #stage: Stage;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  async take(): Promise<void> {
    const [state, metrics] = await Promise.all([
      this.#stage.scheduler(),
      fetch(`${this.#stage.admin}/metrics`).then((answer) => answer.text()),
    ]);
    const waiting = byClass((c) => state.depth.stages.queued[c].items);
    const moved = byClass((c) => state.moved[c]);
    this.stretch.add({ waiting, moved, delivered: { ...this.#stage.mock.stats().byClass } });
    this.waiting = Math.min(...CLASSES.map((c) => waiting[c]));
    this.fill = Math.max(this.fill, state.fill);
    this.spilled = byClass((c) => {
      const line = new RegExp(`^apq_spill_total\\{class="${c}",reason="fill"\\} (\\d+)$`, 'm');
      return Number(line.exec(metrics)?.[1] ?? 0);
    });
  }
}

function shares({ stretch }: Measurement): Finding {
  const promise = 'Shares of critical, high and normal are 5 : 3 : 1';
  const { items, delivered } = stretch;
  if (items < ENOUGH_ITEMS)
    return unmeasured(
      promise,
      `only ${whole(items)} items were delivered while every class had a backlog; ${whole(ENOUGH_ITEMS)} are needed`,
    );
  const weightSum = CLASSES.reduce((sum, c) => sum + WEIGHTS[c], 0);
  const share = byClass((c) => (delivered[c] / items) * weightSum);
  return finding(
    promise,
    CLASSES.map((c) => share[c].toFixed(2)).join(' : '),
    CLASSES.every((c) => Math.abs(share[c] / WEIGHTS[c] - 1) <= TOLERANCE),
  );
}

function spillOrder({ spilled, fill }: Measurement): Finding {
  const promise = 'What does not fit goes to disk, normal before high before critical';
  const { critical, high, normal } = spilled;
  if (normal + high + critical === 0 && fill < SURELY_SPILLED_AT) {
    const most = `the queue was at most ${Math.floor(fill * 100)} % full`;
    return unmeasured(promise, `${most}, and spills at ${SPILL_AT * 100} %`);
  }
  return finding(
    promise,
    CLASSES.map((c) => `${c} ${whole(spilled[c])}`).join(', '),
    normal > 0 && normal + STEP_ITEMS >= high && high + STEP_ITEMS >= critical,
  );
}
