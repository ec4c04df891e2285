import { setTimeout as wait } from 'node:timers/promises';
import { complaint, generate, judge, waitUntil } from '@nrdot/testbed';
import { type ActResult, whole } from './finding.ts';
import type { Performance } from './performance.ts';
import { Recorder, rateOf } from './recorder.ts';

const MIB = 1024 * 1024;
const RATE = 5_000;
/** Seconds of the load at which things happen. */
const DOWN_AT = 3;
const KILL_AT = 9;
const UP_AT = 18;
const LOAD_SECONDS = 30;
const REPLAY_CAP = 4 * MIB;
const WINDOW_SECONDS = 2;
/** A bucket of a quarter second of burst, and sampling four times a second, over such a window. */
const WINDOW_TOLERANCE = 1.25;

/** Act 3: the upstream is away, and the pipeline is killed while it is. */
export async function outage(play: Performance): Promise<ActResult> {
  const title = 'An outage, and kill -9 in its midst';
  play.begin(
    title,
    `${whole(RATE)} spans/s. The upstream goes away for ${UP_AT - DOWN_AT} s; meanwhile the whole pipeline is killed and started again.`,
  );
  await using stage = await play.open({ breaker: { open_max: '2s' } });
  const { mock } = stage;
  const marks: [number, string][] = [];
  let breaker = 'closed';
  let diskMost = 0;
  using recorder = new Recorder(
    ['sent', 'delivered', 'in Redis', 'on disk', 'replayed bytes'],
    async () => {
      const { items } = mock.stats();
      // Counted before the rest, which is not there while the pipeline is down.
      const state = await stage.scheduler();
      breaker = state.breaker.state;
      const { dlq_replayed_bytes_total: replayed } = await stage.metrics('dlq_replayed_bytes_total');
      diskMost = Math.max(diskMost, state.accounting.on_disk);
      return {
        sent: state.accounting.accepted,
        delivered: items,
        'in Redis': state.accounting.queued,
        'on disk': state.accounting.on_disk,
        'replayed bytes': replayed,
      };
    },
    (seen, seconds) =>
      play.progress(
        seconds / (LOAD_SECONDS + 5),
        `breaker ${breaker}; delivered ${whole(seen.delivered ?? 0)}, in Redis ${whole(seen['in Redis'] ?? 0)}, on disk ${whole(seen['on disk'] ?? 0)}`,
      ),
  );
  const startedAt = recorder.seconds;
  const at = async (second: number, what: string) => {
    await wait(Math.max(0, (startedAt + second - recorder.seconds) * 1000), undefined, {
      signal: play.signal,
    });
    marks.push([recorder.seconds, what]);
  };
  const load = generate(
    { endpoint: stage.otlp, rate: RATE, durationMs: LOAD_SECONDS * 1000, batchSize: 250, connections: 8 },
    { signal: play.signal },
  );
  await at(DOWN_AT, 'upstream down');
  mock.set({ outage: true });
  await at(KILL_AT, 'kill -9');
  await stage.killAndRestart();
  await at(UP_AT, 'upstream back');
  mock.set({ outage: false });
  const report = await load;
  const books = await stage.untilQuiet(60_000);
  const fastest = recorder.steepest('replayed bytes', WINDOW_SECONDS);
  await waitUntil(() => mock.stats().items >= report.acknowledgedItems, {
    what: 'the upstream has counted',
    timeoutMs: 1_000,
  }).catch(() => {}); // the finding says what is missing
  const { missing, invented } = judge(report, mock.received(report.run));
  const { duplicates, corrupted } = mock.stats();
  return {
    title,
    story: `${whole(report.items)} spans at ${whole(RATE)}/s through an outage of ${UP_AT - DOWN_AT} s with a kill -9. ${whole(diskMost)} were on disk at most; ${whole(duplicates)} arrived twice, as a kill between sending and noting may cause.`,
    findings: [
      {
        promise: 'Clients notice nothing but the restart: every span is taken',
        measured: `${whole(report.acknowledgedItems)} of ${whole(report.items)}`,
        held: report.acknowledgedItems === report.items,
      },
      {
        promise: 'Nothing acknowledged is lost, invented or damaged',
        measured:
          complaint({ missing, invented }) ||
          `${missing.count} lost, ${invented.count} invented, ${corrupted} damaged`,
        held: missing.count === 0 && invented.count === 0 && corrupted === 0,
      },
      {
        promise: 'What Redis should not hold goes to disk, and comes back',
        measured: `${whole(diskMost)} at most, ${whole(books.on_disk)} at the end`,
        held: diskMost > 0 && books.on_disk === 0,
      },
      {
        promise: `Replay stays under ${REPLAY_CAP / MIB} MiB/s, beside live traffic`,
        measured: `${(fastest / MIB).toFixed(1)} MiB/s in the fastest ${WINDOW_SECONDS} s`,
        held: fastest > 0 && fastest <= REPLAY_CAP * WINDOW_TOLERANCE,
      },
      {
        promise: 'The books balance',
        measured: `accepted ${whole(books.accepted)}, delivered ${whole(books.delivered)}, difference ${books.difference}`,
        held: books.difference === 0 && books.queued === 0,
      },
    ],
    plots: [
      {
        title: 'Where the spans are',
        unit: '',
        series: recorder.series('in Redis', 'on disk'),
        marks,
      },
      {
        title: 'Taken and delivered, per second',
        unit: '/s',
        series: recorder.series('sent', 'delivered').map(rateOf),
        marks,
      },
    ],
  };
}
