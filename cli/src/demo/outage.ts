import { setTimeout as wait } from 'node:timers/promises';
import { complaint, generate, judge, waitUntil } from '@nrdot/testbed';
import { type ActResult, finding, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder, rateOf, steepest } from './recorder.ts';
import { replayPace, WINDOW_SECONDS } from './replay-pace.ts';

const RATE = 5_000;
/** Seconds between the steps. */
const HEALTHY_SECONDS = 3;
const DOWN_SECONDS = 6;
const RESTARTED_SECONDS = 8;
const BACK_SECONDS = 12;
const ALL_SECONDS = HEALTHY_SECONDS + DOWN_SECONDS + RESTARTED_SECONDS + BACK_SECONDS;
/** How long a slow machine may take to spill. */
const SPILL_MS = 20_000;
const QUIET_MS = 40_000;

/** Act 3: the upstream is away, and the pipeline is killed meanwhile. */
export async function outage(play: Performance): Promise<ActResult> {
  const title = 'An outage, with a kill -9 in the middle';
  play.begin(
    title,
    `${whole(RATE)} spans/s. The upstream is down for 15 seconds; meanwhile the whole pipeline is killed and restarted.`,
  );
  await using stage = await play.open({ breaker: { open_max: '2s' } });
  const { mock } = stage;
  const marks: [number, string][] = [];
  let breaker = 'closed';
  let diskMost = 0;
  /** Seconds and bytes, both from the dlq, so that a delay of this process does not matter. */
  const replayed: [number, number][] = [];
  using recorder = new Recorder(
    async () => {
      const { items } = mock.stats();
      // Read before the other values, which are missing while the pipeline is down.
      const state = await stage.scheduler();
      breaker = state.breaker.state;
      const { at, bytes } = await stage.replayed();
      replayed.push([at / 1000, bytes]);
      diskMost = Math.max(diskMost, state.accounting.on_disk);
      return {
        sent: state.accounting.accepted,
        delivered: items,
        'in Redis': state.accounting.queued,
        'on disk': state.accounting.on_disk,
      };
    },
    (seen, seconds) =>
      play.progress(
        seconds / (ALL_SECONDS + 5),
        `breaker ${breaker}; delivered ${whole(seen.delivered ?? 0)}, in Redis ${whole(seen['in Redis'] ?? 0)}, on disk ${whole(seen['on disk'] ?? 0)}`,
      ),
  );
  const after = (seconds: number) => wait(seconds * 1000, undefined, { signal: play.signal });
  const mark = (what: string) => void marks.push([recorder.seconds, what]);
  const over = new AbortController();
  const load = generate(
    { endpoint: stage.otlp, rate: RATE, batchSize: 250, connections: 8 },
    { signal: play.signal, finish: over.signal },
  );
  await after(HEALTHY_SECONDS);
  mark('upstream down');
  const downAt = recorder.seconds;
  mock.set({ outage: true });
  await after(DOWN_SECONDS);
  await waitUntil(() => diskMost > 0 || play.signal.aborted, {
    what: 'data is on disk',
    timeoutMs: SPILL_MS,
  }).catch(() => {}); // shown in the finding
  mark('kill -9');
  await stage.killAndRestart();
  await after(RESTARTED_SECONDS);
  mark('upstream back');
  const outageSeconds = recorder.seconds - downAt;
  mock.set({ outage: false });
  await after(BACK_SECONDS);
  over.abort();
  const report = await load;
  const { books, doubt } = await stage.untilQuiet(QUIET_MS);
  const fastest = steepest(replayed, WINDOW_SECONDS);
  const { missing, invented } = judge(report, mock.received(report.run));
  const { duplicates, corrupted } = mock.stats();
  const unharmed = invented.count === 0 && corrupted === 0;
  return {
    title,
    story: `${whole(report.items)} spans, up to ${whole(RATE)}/s, through an outage of ${outageSeconds.toFixed(0)} s with a kill -9. At most ${whole(diskMost)} were on disk; ${whole(duplicates)} arrived twice, which a kill between sending and recording may cause.`,
    findings: [
      finding(
        'Clients notice only the restart: every span is accepted',
        `${whole(report.acknowledgedItems)} of ${whole(report.items)}`,
        report.acknowledgedItems === report.items,
      ),
      finding(
        'Nothing acknowledged is lost, invented or damaged',
        complaint({ missing, invented }) ||
          `${missing.count} lost, ${invented.count} invented, ${corrupted} damaged`,
        missing.count === 0 && unharmed,
        unharmed ? doubt : '',
      ),
      finding(
        'Data spills to disk, and is replayed',
        `${whole(diskMost)} at most, ${whole(books.on_disk)} at the end`,
        diskMost > 0 && books.on_disk === 0,
        diskMost > 0 ? doubt : '',
      ),
      replayPace(fastest),
      finding(
        'The books balance',
        `accepted ${whole(books.accepted)}, delivered ${whole(books.delivered)}, difference ${books.difference}`,
        books.difference === 0 && books.queued === 0,
        doubt,
      ),
    ],
    plots: [
      { title: 'Where the spans are', unit: '', series: recorder.series('in Redis', 'on disk'), marks },
      {
        title: 'Accepted and delivered, per second',
        unit: '/s',
        series: recorder.series('sent', 'delivered').map(rateOf),
        marks,
      },
    ],
  };
}
