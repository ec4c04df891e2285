import { alike, areas, type Board, gauge, graph, greenUntil, stat, timeline } from './board.ts';
import { level, percentiles, perSecond, total } from './measure.ts';

const PER_SECOND = 'suffix: items/s';
const STATE_NAMES = {
  0: ['ok', 'green'],
  1: ['full', 'orange'],
  2: ['disk full', 'red'],
  3: ['disk failing', 'red'],
} as const;
const STATE = {
  promql:
    'max(dlq_state{state="full"}) + 2 * max(dlq_state{state="disk_full"}) + 3 * max(dlq_state{state="disk_failing"})',
  nrql: {
    select:
      "filter(max(dlq_state), WHERE state = 'full') + 2 * filter(max(dlq_state), WHERE state = 'disk_full') + 3 * filter(max(dlq_state), WHERE state = 'disk_failing')",
  },
};

/** What is on disk, the progress of replay, and how long there is room. */
export const dlq: Board = {
  uid: 'nrdot-dlq',
  title: 'NRDOT+ 4 DLQ',
  description: 'What is on disk, how it is replayed, and how long there is room. See docs/dlq.md.',
  rows: {
    Now: [
      stat(
        'On disk',
        'Items waiting to be replayed.',
        'locale',
        level('sum', 'dlq_items', { where: { area: '!rejected' } }),
        { thresholds: greenUntil([1, 'orange']) },
      ),
      gauge('Use', 'Of dlq.capacity.', 'percentunit', level('max', 'dlq_utilization_ratio'), {
        thresholds: greenUntil([0.8, 'orange'], [0.95, 'red']),
      }),
      gauge(
        'Use in 12 h',
        'At the rate of the last hour.',
        'percentunit',
        {
          promql: 'clamp(max(predict_linear(dlq_utilization_ratio[1h], 43200)), 0, 2)',
          nrql: { select: 'predictLinear(dlq_utilization_ratio, 12 hours)', since: '1 hour ago' },
        },
        { max: 2, thresholds: greenUntil([0.8, 'orange'], [1, 'red']) },
      ),
      stat(
        'Empty in',
        'At the current replay rate, once the breaker is closed.',
        's',
        level('max', 'dlq_drain_seconds'),
      ),
      stat(
        'Damaged places',
        'Found since the dlq was started; their data is in quarantine.',
        'locale',
        total('sum', 'dlq_corrupted_total'),
        { thresholds: greenUntil([1, 'red']) },
      ),
      stat('Replay', 'Paused by an operator, or running.', 'none', level('max', 'dlq_replay_paused'), {
        names: { 0: ['running', 'green'], 1: ['paused', 'orange'] },
        thresholds: greenUntil([1, 'orange']),
      }),
      timeline(
        'State of the disk',
        'Full: dlq.capacity is reached. Disk full, failing: as reported by the system.',
        { disk: STATE },
        STATE_NAMES,
        { width: 24, height: 4 },
      ),
    ],
    'In and back': [
      graph('Items', 'Written to disk, and returned to the queue.', PER_SECOND, {
        'stored {{class}}': perSecond('sum', 'dlq_stored_items_total', { by: ['class'] }),
        'replayed {{class}}': perSecond('sum', 'dlq_replayed_items_total', { by: ['class'] }),
      }),
      graph(
        'Replay',
        'Uncompressed payload, and the current limit, which adapts to the upstream and is at most dlq.replay_rate.',
        'Bps',
        {
          replayed: perSecond('sum', 'dlq_replayed_bytes_total'),
          allowed: level('sum', 'dlq_replay_rate_bytes'),
          stored: perSecond('sum', 'dlq_stored_bytes_total'),
        },
      ),
      graph('Oldest on disk', 'Age by class; data older than dlq.retention is dropped.', 's', {
        '{{class}}': level('max', 'dlq_oldest_age_seconds', { by: ['class'] }),
      }),
      graph(
        'Time until durable',
        'From the arrival of a batch at the dlq to its fsync.',
        's',
        percentiles('dlq_commit_seconds'),
      ),
    ],
    'On disk': alike({ width: 8 }, [
      areas('Items', 'By class; data rejected by the upstream separately.', 'locale', {
        '{{area}}': level('sum', 'dlq_items', { by: ['area'] }),
      }),
      areas('Bytes', 'As stored, compressed.', 'bytes', {
        '{{area}}': level('sum', 'dlq_disk_bytes', { by: ['area'] }),
      }),
      areas('Segments', 'Files.', 'locale', { '{{area}}': level('sum', 'dlq_segments', { by: ['area'] }) }),
      graph('Free space on the disk', 'Beyond dlq.reserve; at 0 the dlq accepts nothing.', 'bytes', {
        '{{instance}}': level('each', 'dlq_disk_free_bytes'),
      }),
      graph('Rejected', 'Items by reason; they are kept in the rejected area.', PER_SECOND, {
        '{{reason}}': perSecond('sum', 'exporter_rejected_items_total', { by: ['reason'] }),
      }),
      graph('Dropped', 'Dropped items by reason. Nothing else is ever lost.', 'locale', {
        '{{reason}}': total('max', 'pipeline_dropped_items_total', { by: ['reason'] }),
      }),
    ]),
  },
};
