import { areas, type Board, graph, greenUntil, stat } from './board.ts';
import { level, percentiles, perSecond, quantile } from './measure.ts';

const PER_SECOND = 'suffix: items/s';

/** Shares, waiting batches and spilling by class. */
export const priority: Board = {
  uid: 'nrdot-priority',
  title: 'NRDOT+ 3 Priority',
  description: 'Which class goes first, waits or spills. See docs/priority.md.',
  rows: {
    Shares: [
      graph(
        'Share of each class',
        'Items that left the scheduler, and the share by weight. The two agree while all three classes have work.',
        'percentunit',
        {
          '{{class}}': {
            promql:
              'sum by (class) (rate(apq_moved_items_total[$__rate_interval])) / scalar(sum(rate(apq_moved_items_total[$__rate_interval])))',
            nrql: 'NRQL divides within a facet, not by the sum over all facets; see "Items moved" for the numbers',
          },
          '{{class}} by weight': level('max', 'apq_weight_ratio', { by: ['class'] }),
        },
        { max: 1 },
      ),
      graph(
        'Deficits',
        'Items that each class may send before the one furthest ahead is served again. Small while the weights hold.',
        'locale',
        { '{{class}} {{origin}}': level('max', 'apq_deficit_items', { by: ['class', 'origin'] }) },
      ),
      graph('Items moved', 'From the class queues to the exporters.', PER_SECOND, {
        '{{class}}': perSecond('sum', 'apq_moved_items_total', { by: ['class'] }),
      }),
    ],
    Waiting: [
      areas('Items waiting', 'In Redis, by class; replayed items came from disk.', 'locale', {
        '{{class}} {{origin}}': level('max', 'apq_class_size', { by: ['class', 'origin'] }),
      }),
      areas('Bytes waiting', 'As stored in Redis.', 'bytes', {
        '{{class}} {{origin}}': level('max', 'apq_class_bytes', { by: ['class', 'origin'] }),
      }),
      graph('Fill by class', 'Relative to the limit of each queue.', 'percentunit', {
        '{{class}}': level('max', 'apq_class_fill_ratio', { by: ['class'] }),
      }),
      graph('Age of the oldest', 'Of the batches waiting for the scheduler.', 's', {
        '{{class}} {{origin}}': level('max', 'apq_oldest_age_seconds', { by: ['class', 'origin'] }),
      }),
      graph('Wait until sent, 99th percentile', 'By class, live traffic.', 's', {
        '{{class}}': quantile(0.99, 'exporter_wait_seconds', { where: { origin: 'live' }, by: ['class'] }),
      }),
      graph(
        'End to end, 99th percentile',
        'From request to recorded delivery, by class, live traffic.',
        's',
        {
          '{{class}}': quantile(0.99, 'pipeline_end_to_end_seconds', {
            where: { origin: 'live' },
            by: ['class'],
          }),
        },
      ),
      graph('Spilled', 'Items sent to disk, by class and reason.', PER_SECOND, {
        '{{class}} {{reason}}': perSecond('max', 'apq_spill_total', { by: ['class', 'reason'] }),
      }),
    ],
    'Scheduler and exporters': [
      stat('Fill', 'Of the queue.', 'percentunit', level('max', 'apq_fill_ratio'), {
        height: 8,
        thresholds: greenUntil([0.8, 'orange'], [0.95, 'red']),
      }),
      graph('Decisions', 'Jobs passed to the exporters.', 'ops', {
        jobs: perSecond('max', 'apq_decisions_total'),
      }),
      graph(
        'Time of one move',
        'A weighted window of batches, round trip included.',
        's',
        percentiles('apq_move_seconds'),
        { width: 10 },
      ),
      graph(
        'Requests in flight',
        'And their limit, which adapts to the upstream.',
        'short',
        { 'in flight': level('sum', 'exporter_inflight'), allowed: level('sum', 'exporter_concurrency') },
        { width: 10 },
      ),
    ],
  },
};
