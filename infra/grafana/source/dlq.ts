import { type Board, gauge, graph, quantile, stat, timeline } from './board.ts';

const PER_SECOND = 'suffix: items/s';
const STATE_NAMES = {
  0: ['ok', 'green'],
  1: ['full', 'orange'],
  2: ['disk full', 'red'],
  3: ['disk failing', 'red'],
} as const;
const STATE =
  'max(dlq_state{state="full"}) + 2 * max(dlq_state{state="disk_full"}) + 3 * max(dlq_state{state="disk_failing"})';

/** What is on disk, how it comes back, how long there is room. */
export const dlq: Board = {
  uid: 'nrdot-dlq',
  title: 'NRDOT+ 4 DLQ',
  description: 'What is on disk, how it comes back, and how long there is room. docs/dlq.md explains it.',
  rows: [
    {
      title: 'Now',
      panels: [
        stat('On disk', 'Items that wait for their replay.', 'locale', 'sum(dlq_items{area!="rejected"})', {
          height: 5,
          thresholds: [
            [null, 'green'],
            [1, 'orange'],
          ],
        }),
        gauge('Use', 'Of dlq.capacity.', 'percentunit', 'max(dlq_utilization_ratio)', {
          thresholds: [
            [null, 'green'],
            [0.8, 'orange'],
            [0.95, 'red'],
          ],
        }),
        gauge(
          'Use in 12 h',
          'If it goes on as in the last hour.',
          'percentunit',
          'clamp(max(predict_linear(dlq_utilization_ratio[1h], 43200)), 0, 2)',
          {
            max: 2,
            thresholds: [
              [null, 'green'],
              [0.8, 'orange'],
              [1, 'red'],
            ],
          },
        ),
        stat(
          'Empty in',
          'At the present rate of replay, once the breaker is closed.',
          's',
          'max(dlq_drain_seconds)',
          { height: 5 },
        ),
        stat(
          'Damaged places',
          'Found since the dlq was started; what they held is in quarantine.',
          'locale',
          'sum(dlq_corrupted_total)',
          {
            height: 5,
            thresholds: [
              [null, 'green'],
              [1, 'red'],
            ],
          },
        ),
        stat('Replay', 'Paused by a person, or running.', 'none', 'max(dlq_replay_paused)', {
          height: 5,
          names: { 0: ['running', 'green'], 1: ['paused', 'orange'] },
          thresholds: [
            [null, 'green'],
            [1, 'orange'],
          ],
        }),
        timeline(
          'State of the disk',
          'Full: dlq.capacity. Disk full and failing: what the system says.',
          [['disk', STATE]],
          STATE_NAMES,
          {
            width: 24,
            height: 4,
          },
        ),
      ],
    },
    {
      title: 'In and back',
      panels: [
        graph('Items', 'Written to disk, and put back into the queue.', PER_SECOND, [
          ['stored {{class}}', 'sum by (class) (rate(dlq_stored_items_total[$__rate_interval]))'],
          ['replayed {{class}}', 'sum by (class) (rate(dlq_replayed_items_total[$__rate_interval]))'],
        ]),
        graph(
          'Replay',
          'Uncompressed payload, beside what it may use now; that follows the upstream, at most dlq.replay_rate.',
          'Bps',
          [
            ['replayed', 'sum(rate(dlq_replayed_bytes_total[$__rate_interval]))'],
            ['allowed', 'sum(dlq_replay_rate_bytes)'],
            ['stored', 'sum(rate(dlq_stored_bytes_total[$__rate_interval]))'],
          ],
        ),
        graph('Oldest on disk', 'Age by class; beyond dlq.retention it is dropped.', 's', [
          ['{{class}}', 'max by (class) (dlq_oldest_age_seconds)'],
        ]),
        graph('Time until durable', 'From a batch reaching the dlq to its fsync.', 's', [
          ['50 %', quantile(0.5, 'dlq_commit_seconds')],
          ['99 %', quantile(0.99, 'dlq_commit_seconds')],
        ]),
      ],
    },
    {
      title: 'On disk',
      panels: [
        graph(
          'Items',
          'By class; what the upstream refused for good apart.',
          'locale',
          [['{{area}}', 'sum by (area) (dlq_items)']],
          {
            stacked: true,
            width: 8,
          },
        ),
        graph('Bytes', 'As stored, compressed.', 'bytes', [['{{area}}', 'sum by (area) (dlq_disk_bytes)']], {
          stacked: true,
          width: 8,
        }),
        graph('Segments', 'Files.', 'locale', [['{{area}}', 'sum by (area) (dlq_segments)']], {
          stacked: true,
          width: 8,
        }),
        graph(
          'Free on the disk itself',
          'dlq.reserve of it stays free.',
          'bytes',
          [['{{instance}}', 'dlq_disk_free_bytes']],
          { width: 8 },
        ),
        graph(
          'Refused for good',
          'Items by reason; they wait in the rejected area.',
          PER_SECOND,
          [['{{reason}}', 'sum by (reason) (rate(exporter_rejected_items_total[$__rate_interval]))']],
          { width: 8 },
        ),
        graph(
          'Dropped',
          'Items given up, by reason. Nothing else is ever lost.',
          'locale',
          [['{{reason}}', 'max by (reason) (pipeline_dropped_items_total)']],
          { width: 8 },
        ),
      ],
    },
  ],
};
