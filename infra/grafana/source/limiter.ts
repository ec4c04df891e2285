import { type Board, gauge, graph, quantile, stat } from './board.ts';

const POINTS = 'suffix: points/s';

/** What the cardinality limiter holds back, and how. */
export const limiter: Board = {
  uid: 'nrdot-limiter',
  title: 'NRDOT+ 2 Limiter',
  description: 'What the cardinality limiter holds back, and how. docs/limiter.md explains it.',
  rows: [
    {
      title: 'Key-sets',
      panels: [
        stat(
          'Alive',
          'Key-sets of all receivers together; never above limiter.max_keys.',
          'locale',
          'max(cl_keys_used)',
          {
            height: 5,
          },
        ),
        stat('Limit', 'limiter.max_keys.', 'locale', 'max(cl_keys_limit)', {
          height: 5,
          thresholds: [[null, 'blue']],
        }),
        gauge(
          'Use',
          'From limiter.act_above (half) on labels are looked at.',
          'percentunit',
          'max(cl_keys_used) / max(cl_keys_limit)',
          {
            thresholds: [
              [null, 'green'],
              [0.5, 'yellow'],
              [0.95, 'red'],
            ],
          },
        ),
        stat(
          'Dropped',
          'Points dropped in the range shown.',
          'locale',
          'sum(increase(cl_dropped_samples_total[$__range]))',
          {
            height: 5,
            thresholds: [
              [null, 'green'],
              [1, 'orange'],
            ],
          },
        ),
        stat(
          'Merged',
          'Points merged into others after a label was given up: totals stay true.',
          'locale',
          'sum(increase(cl_aggregated_samples_total[$__range]))',
          {
            height: 5,
          },
        ),
        stat(
          'Overflow',
          'Points put into the otel.metric.overflow stream.',
          'locale',
          'sum(increase(cl_overflow_samples_total[$__range]))',
          {
            height: 5,
          },
        ),
        graph('Key-sets as each receiver knows them', 'Used, beside limiter.max_keys.', 'locale', [
          ['{{instance}} used', 'cl_keys_used'],
          ['{{instance}} limit', 'cl_keys_limit'],
        ]),
        graph('Evicted entries', 'By table. Keys: unseen for key_ttl and in the way of others.', 'ops', [
          ['{{table}}', 'sum by (table) (rate(cl_evictions_total[$__rate_interval]))'],
        ]),
      ],
    },
    {
      title: 'Points',
      panels: [
        graph('Accepted', 'Metric points that went on.', POINTS, [
          ['accepted', 'sum(rate(receiver_items_total{signal="metrics"}[$__rate_interval]))'],
        ]),
        graph('Held back', 'Dropped by reason, merged, overflow.', POINTS, [
          ['dropped: {{reason}}', 'sum by (reason) (rate(cl_dropped_samples_total[$__rate_interval]))'],
          ['merged', 'sum(rate(cl_aggregated_samples_total[$__rate_interval]))'],
          ['overflow', 'sum(rate(cl_overflow_samples_total[$__rate_interval]))'],
        ]),
        graph(
          'Time per request',
          'What the limiter takes for one request.',
          's',
          [
            ['50 %', quantile(0.5, 'cl_latency_seconds')],
            ['99 %', quantile(0.99, 'cl_latency_seconds')],
          ],
          { width: 24 },
        ),
      ],
    },
  ],
};
