import { complaint, type GenerateReport, generate, judge } from '@nrdot/testbed';
import { type ActResult, type Finding, finding, type Plot, unmeasured, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder } from './recorder.ts';

const MAX_KEYS = 65_536;
const POINTS = 1_000_000;
const POINTS_PER_SECOND = 125_000;
/** Maximum duration; a slow machine sends fewer points. */
const STORM_MS = 20_000;
/** Fewer key-sets prove nothing. */
const ENOUGH_POINTS = 2 * MAX_KEYS;
const QUIET_MS = 30_000;
/** Every point has the value 1, so that a total counts points. */
const POINT = { signals: { metrics: 1 }, metricKinds: { sum: 1 }, unitValues: true } as const;
/** Labels with which the generator makes each point unique. */
const UNIQUE_LABELS = ['k8s.pod.uid', 'host.name'];

/** Act 1: a label with a new value for every point, beside a well-behaved application. */
export async function storm(play: Performance): Promise<ActResult> {
  const title = 'A cardinality storm';
  play.begin(
    title,
    `A metric gets up to ${whole(POINTS)} different label sets, as if somebody had added an id to it. Meanwhile an application continues with its 100. First with the default configuration, then with permission to strip the label.`,
  );
  const overflowing = await clamp(play, 0, {});
  const merging = await clamp(play, 0.5, { limiter: { aggregate_labels: UNIQUE_LABELS } });
  const { application, doubt } = overflowing;
  const points = [...new Set([overflowing.stormed, merging.stormed])].map(whole).join(' and ');
  return {
    title,
    story: `Two storms of points, each point with its own label set (${points}), alongside an application with 100 key-sets: in the first, the excess goes into an overflow stream; in the second, the label is stripped, so streams merge.`,
    findings: [
      clamped('', overflowing),
      kept(
        'No point is dropped: the excess is in the overflow stream, and the sum upstream equals the sum sent',
        overflowing,
      ),
      finding(
        'The existing application loses no point',
        application || 'none lost',
        application === '',
        doubt,
      ),
      clamped(', merged', merging),
      kept('Merged, no point is dropped and the sum upstream equals the sum sent', merging),
    ],
    plots: [
      plot('Key-sets, new ones in the overflow stream', overflowing),
      plot('Key-sets, merged', merging),
    ],
  };
}

type Clamped = Awaited<ReturnType<typeof clamp>>;

async function clamp(play: Performance, from: number, settings: Record<string, unknown>) {
  await using stage = await play.open(settings);
  const { mock } = stage;
  let stormed = 0;
  using recorder = new Recorder(
    async () => ({
      'key-sets sent': stormed,
      'streams upstream': mock.stats().streams,
      'key-sets in use': (await stage.metrics('cl_keys_used')).cl_keys_used,
    }),
    (seen) =>
      play.progress(
        from + stormed / POINTS / 2,
        `${whole(stormed)} key-sets sent, ${whole(seen['key-sets in use'] ?? 0)} in use, ${whole(seen['streams upstream'] ?? 0)} upstream`,
      ),
  );
  const target = { ...POINT, endpoint: stage.otlp };
  const application = { ...target, cardinality: 100, seed: 2, batchSize: 100, rate: 500 };
  // The application starts first, so that its key-sets are known when the storm begins.
  const before = await generate({ ...application, items: 500 }, { signal: play.signal });
  const over = new AbortController();
  // A sender that is cut off in a request cannot know whether it was accepted: it sends no more, and waits.
  const beside = generate(
    { ...application, run: before.run + 1 },
    { signal: play.signal, finish: over.signal },
  );
  const storm = await generate(
    {
      ...{ ...target, rate: POINTS_PER_SECOND, batchSize: 2_000, encoding: 'identity' },
      ...{ items: POINTS, cardinality: POINTS },
    },
    {
      signal: play.signal,
      finish: AbortSignal.timeout(STORM_MS),
      progress: ({ sentItems }) => {
        stormed = sentItems;
      },
    },
  );
  over.abort();
  const good = await beside;
  const { doubt } = await stage.untilQuiet(QUIET_MS);
  const counted = await stage.metrics(
    'cl_dropped_samples_total',
    'cl_keys_used',
    'exporter_retries_total',
    'dlq_stored_items_total',
  );
  const upstream = mock.stats();
  const all = [before, storm, good];
  const sum = (of: (report: typeof storm) => number) => all.reduce((total, report) => total + of(report), 0);
  const lost = all.reduce((count, report) => count + withoutAnswer(report), 0);
  const takenTwice = lost + counted.exporter_retries_total + counted.dlq_stored_items_total;
  return {
    /** Points of the storm only. */
    stormed: storm.items,
    /** Number of points, and the sum of their values, which are 1. */
    sent: sum(({ acknowledgedItems, rejectedItems }) => acknowledgedItems + rejectedItems),
    total: upstream.deltaSum,
    dropped: counted.cl_dropped_samples_total,
    used: counted.cl_keys_used,
    streams: upstream.streams,
    /** What went wrong for the application; empty if nothing did. */
    application: [before, good]
      .map((report) =>
        report.rejectedItems > 0
          ? `${whole(report.rejectedItems)} dropped`
          : complaint(judge(report, mock.received(report.run))),
      )
      .filter(Boolean)
      .join('; '),
    /** Why some of it may yet arrive, or may have arrived twice. */
    doubt,
    repeats: takenTwice > 0 ? 'answers were late or lost, so retried requests may arrive twice' : '',
    series: recorder.series('key-sets sent', 'streams upstream', 'key-sets in use'),
  };
}

/** Attempts after which the sender does not know whether they were accepted. */
function withoutAnswer({ attemptsByStatus }: GenerateReport): number {
  return Object.entries(attemptsByStatus)
    .filter(([status]) => !/^\d+$/.test(status))
    .reduce((sum, [, attempts]) => sum + attempts, 0);
}

function clamped(how: string, { stormed, used, streams }: Clamped): Finding {
  const promise = `At most ${whole(MAX_KEYS)} key-sets in use, and as streams upstream${how}`;
  const held = used <= MAX_KEYS && streams <= MAX_KEYS;
  return held && stormed < ENOUGH_POINTS
    ? unmeasured(promise, `only ${whole(stormed)} points could be sent in ${STORM_MS / 1000} s`)
    : finding(promise, `${whole(used)} and ${whole(streams)}`, held);
}

function kept(promise: string, { sent, total, dropped, repeats, doubt }: Clamped): Finding {
  return finding(
    promise,
    `${whole(total)} of ${whole(sent)}, ${whole(dropped)} dropped`,
    total === sent && dropped === 0,
    dropped > 0 ? '' : total > sent ? repeats : doubt,
  );
}

function plot(title: string, { series }: Clamped): Plot {
  return { title, unit: '', series, marks: [], limit: { name: whole(MAX_KEYS), value: MAX_KEYS } };
}
