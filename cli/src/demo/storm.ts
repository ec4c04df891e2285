import { complaint, generate, judge } from '@nrdot/testbed';
import { type ActResult, type Finding, type Plot, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder } from './recorder.ts';

const MAX_KEYS = 65_536;
const POINTS = 1_000_000;
const POINTS_PER_SECOND = 125_000;
/** Every point is worth 1, so that a total counts points. */
const POINT = { signals: { metrics: 1 }, metricKinds: { sum: 1 }, unitValues: true } as const;
/** What the generator makes different in each point. */
const UNIQUE_LABELS = ['k8s.pod.uid', 'host.name'];

/** Act 1: a label with a new value for every point, beside an application that behaves. */
export async function storm(play: Performance): Promise<ActResult> {
  const title = 'A cardinality storm';
  play.begin(
    title,
    `A metric gets ${whole(POINTS)} different label sets, as when somebody puts an id on it. Beside it an application goes on with its 100. First as configured by default, then with leave to give the label up.`,
  );
  const dropping = await clamp(play, 0, {});
  const merging = await clamp(play, 0.5, { limiter: { aggregate_labels: UNIQUE_LABELS } });
  const { sent, total, told, dropped, application } = dropping;
  return {
    title,
    story: `Twice ${whole(POINTS)} points, each with a label set of its own, beside an application with 100 key-sets: once new ones are dropped, and once the label is given up, so that streams merge.`,
    findings: [
      clamped('', dropping),
      {
        promise: 'The sum upstream is the sum sent, less what was dropped',
        measured: `${whole(total)}; ${whole(sent)} less ${whole(dropped)}`,
        held: total === sent - dropped,
      },
      {
        promise: 'Every dropped point is reported to its sender',
        measured: `${whole(told)} reported, ${whole(dropped)} dropped`,
        held: told === dropped,
      },
      {
        promise: 'The application that was there before loses no point',
        measured: application || 'none lost',
        held: application === '',
      },
      clamped(', merged', merging),
      {
        promise: 'Merged, no point is dropped and the sum upstream is the sum sent',
        measured: `${whole(merging.total)} of ${whole(merging.sent)}`,
        held: merging.total === merging.sent && merging.dropped === 0,
      },
    ],
    plots: [plot('Key-sets, new ones dropped', dropping), plot('Key-sets, merged', merging)],
  };
}

interface Clamped {
  /** Points, and the sum of their values, which are 1. */
  sent: number;
  total: number;
  dropped: number;
  told: number;
  used: number;
  streams: number;
  /** What the application has to complain of; empty for nothing. */
  application: string;
  series: Plot['series'];
}

async function clamp(play: Performance, from: number, settings: Record<string, unknown>): Promise<Clamped> {
  await using stage = await play.open(settings);
  const { mock } = stage;
  let stormed = 0;
  using recorder = new Recorder(
    ['key-sets sent', 'streams upstream', 'key-sets in use'],
    async () => {
      const { cl_keys_used: used } = await stage.metrics('cl_keys_used');
      return {
        'key-sets sent': stormed,
        'streams upstream': mock.stats().streams,
        'key-sets in use': used,
      };
    },
    (seen) =>
      play.progress(
        from + stormed / POINTS / 2,
        `${whole(stormed)} key-sets sent, ${whole(seen['key-sets in use'] ?? 0)} in use, ${whole(seen['streams upstream'] ?? 0)} upstream`,
      ),
  );
  const application = {
    ...POINT,
    endpoint: stage.otlp,
    cardinality: 100,
    seed: 2,
    batchSize: 100,
    rate: 500,
  };
  // It was there first: its key-sets are known when the storm begins.
  const before = await generate({ ...application, items: 500 }, { signal: play.signal });
  const over = new AbortController();
  const beside = generate(
    { ...application, run: before.run + 1 },
    { signal: AbortSignal.any([play.signal, over.signal]) },
  );
  const storm = await generate(
    {
      ...POINT,
      endpoint: stage.otlp,
      rate: POINTS_PER_SECOND,
      batchSize: 2_000,
      encoding: 'identity',
      items: POINTS,
      cardinality: POINTS,
    },
    {
      signal: play.signal,
      progress: ({ sentItems }) => {
        stormed = sentItems;
      },
    },
  );
  over.abort();
  const good = await beside;
  await stage.untilQuiet(60_000);
  const { cl_dropped_samples_total: dropped, cl_keys_used: used } = await stage.metrics(
    'cl_dropped_samples_total',
    'cl_keys_used',
  );
  const upstream = mock.stats();
  const all = [before, storm, good];
  const sum = (of: (report: typeof storm) => number) => all.reduce((total, report) => total + of(report), 0);
  return {
    sent: sum(({ acknowledgedItems, rejectedItems }) => acknowledgedItems + rejectedItems),
    total: upstream.deltaSum,
    dropped,
    told: sum(({ rejectedItems }) => rejectedItems),
    used,
    streams: upstream.streams,
    application: [before, good]
      .map((report) =>
        report.rejectedItems > 0
          ? `${whole(report.rejectedItems)} dropped`
          : complaint(judge(report, mock.received(report.run))),
      )
      .filter(Boolean)
      .join('; '),
    series: recorder.series('key-sets sent', 'streams upstream', 'key-sets in use'),
  };
}

function clamped(how: string, { used, streams }: Clamped): Finding {
  return {
    promise: `At most ${whole(MAX_KEYS)} key-sets in use, and as streams upstream${how}`,
    measured: `${whole(used)} and ${whole(streams)}`,
    held: used <= MAX_KEYS && streams <= MAX_KEYS,
  };
}

function plot(title: string, { series }: Clamped): Plot {
  return { title, unit: '', series, marks: [], limit: { name: whole(MAX_KEYS), value: MAX_KEYS } };
}
