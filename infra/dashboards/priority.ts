import { type Board, graph, stat } from './board.ts';
import { level, perSecond, quantile, written } from './measure.ts';

const PER_SECOND = 'suffix: items/s';

/** Shares, waiting batches and spilling by class. */
export const priority: Board = {
  uid: 'nrdot-priority',
  title: 'NRDOT+ 3 Priority',
  description: 'Who goes first, who waits, who spills. docs/priority.md explains it.',
  rows: [
    {
      title: 'Shares',
      panels: [
        graph(
          'Share of each class',
          'Items that left the scheduler, beside the share by weight. They meet while all three classes wait.',
          'percentunit',
          [
            [
              '{{class}}',
              written(
                'sum by (class) (rate(apq_moved_items_total[$__rate_interval])) / scalar(sum(rate(apq_moved_items_total[$__rate_interval])))',
                {
                  reason:
                    'NRQL divides within a facet, not by the sum of all of them; "Items moved" beside it has the numbers',
                },
              ),
            ],
            ['{{class}} by weight', level('max', 'apq_weight_ratio', { by: ['class'] })],
          ],
          { max: 1 },
        ),
        graph(
          'Deficits',
          'Items that each class may have before the one furthest ahead is served again. Small while the weights hold.',
          'locale',
          [['{{class}} {{origin}}', level('max', 'apq_deficit_items', { by: ['class', 'origin'] })]],
        ),
        graph('Items moved', 'From the class queues to the exporters.', PER_SECOND, [
          ['{{class}}', perSecond('sum', 'apq_moved_items_total', { by: ['class'] })],
        ]),
      ],
    },
    {
      title: 'Waiting',
      panels: [
        graph(
          'Items waiting',
          'In Redis, by class; replay came from disk.',
          'locale',
          [['{{class}} {{origin}}', level('max', 'apq_class_size', { by: ['class', 'origin'] })]],
          { stacked: true },
        ),
        graph(
          'Bytes waiting',
          'As held in Redis.',
          'bytes',
          [['{{class}} {{origin}}', level('max', 'apq_class_bytes', { by: ['class', 'origin'] })]],
          { stacked: true },
        ),
        graph('Fill by class', 'Of what each queue may hold.', 'percentunit', [
          ['{{class}}', level('max', 'apq_class_fill_ratio', { by: ['class'] })],
        ]),
        graph('Age of the oldest', 'Of the batches that wait for the scheduler.', 's', [
          ['{{class}} {{origin}}', level('max', 'apq_oldest_age_seconds', { by: ['class', 'origin'] })],
        ]),
        graph('Wait until sent, 99th percentile', 'By class, live traffic.', 's', [
          [
            '{{class}}',
            quantile(0.99, 'exporter_wait_seconds', { where: { origin: 'live' }, by: ['class'] }),
          ],
        ]),
        graph(
          'End to end, 99th percentile',
          'From request to delivery acknowledged, by class, live traffic.',
          's',
          [
            [
              '{{class}}',
              quantile(0.99, 'pipeline_end_to_end_seconds', { where: { origin: 'live' }, by: ['class'] }),
            ],
          ],
        ),
        graph('Spilled', 'Items sent to disk, by class and reason.', PER_SECOND, [
          ['{{class}} {{reason}}', perSecond('max', 'apq_spill_total', { by: ['class', 'reason'] })],
        ]),
      ],
    },
    {
      title: 'Scheduler and exporters',
      panels: [
        stat('Fill', 'Of the queue.', 'percentunit', level('max', 'apq_fill_ratio'), {
          height: 8,
          thresholds: [
            [null, 'green'],
            [0.8, 'orange'],
            [0.95, 'red'],
          ],
        }),
        graph('Decisions', 'Jobs sent on to the exporters.', 'ops', [
          ['jobs', perSecond('max', 'apq_decisions_total')],
        ]),
        graph(
          'Time of one move',
          'A weighted window of batches, round trip included.',
          's',
          [
            ['50 %', quantile(0.5, 'apq_move_seconds')],
            ['99 %', quantile(0.99, 'apq_move_seconds')],
          ],
          { width: 10 },
        ),
        graph(
          'Requests in flight',
          'Beside what may be: it adapts to the upstream.',
          'short',
          [
            ['in flight', level('sum', 'exporter_inflight')],
            ['allowed', level('sum', 'exporter_concurrency')],
          ],
          { width: 10 },
        ),
      ],
    },
  ],
};
