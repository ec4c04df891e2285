import { BLUE, type Board, gauge, graph, greenUntil, stat } from './board.ts';
import { counts, level, percentiles, perSecond, ratio } from './measure.ts';

const POINTS = 'suffix: points/s';

/** What the cardinality limiter drops and merges. */
export const limiter: Board = {
  uid: 'nrdot-limiter',
  title: 'NRDOT+ 2 Limiter',
  description: 'What the cardinality limiter drops, merges and strips. See docs/limiter.md.',
  rows: {
    'Key-sets': [
      stat(
        'Alive',
        'Key-sets of all receivers together; never above limiter.max_keys.',
        'locale',
        level('max', 'cl_keys_used'),
      ),
      stat('Limit', 'limiter.max_keys.', 'locale', level('max', 'cl_keys_limit'), { thresholds: BLUE }),
      gauge(
        'Use',
        'The limiter acts above limiter.act_above (half).',
        'percentunit',
        ratio('max', 'cl_keys_used', 'cl_keys_limit'),
        { thresholds: greenUntil([0.5, 'yellow'], [0.95, 'red']) },
      ),
      stat(
        'Dropped',
        'Points dropped in the selected time range.',
        'locale',
        counts('sum', 'cl_dropped_samples_total', '$__range'),
        { thresholds: greenUntil([1, 'orange']) },
      ),
      stat(
        'Merged',
        'Points merged into others after a label was stripped: totals stay correct.',
        'locale',
        counts('sum', 'cl_aggregated_samples_total', '$__range'),
      ),
      stat(
        'Overflow',
        'Points merged into an otel.metric.overflow stream.',
        'locale',
        counts('sum', 'cl_overflow_samples_total', '$__range'),
      ),
      graph('Key-sets as each receiver knows them', 'In use, and limiter.max_keys.', 'locale', {
        '{{instance}} used': level('each', 'cl_keys_used'),
        '{{instance}} limit': level('each', 'cl_keys_limit'),
      }),
      graph('Evicted entries', 'By table. Keys: not seen for key_ttl, evicted to make room.', 'ops', {
        '{{table}}': perSecond('sum', 'cl_evictions_total', { by: ['table'] }),
      }),
      graph(
        'Series of the UTC day',
        'Of the metrics with the most, and the limit per metric (limiter.daily_keys).',
        'locale',
        {
          '{{metric}}': level('max', 'cl_daily_keys', { by: ['metric'] }),
          limit: level('max', 'cl_daily_keys_limit'),
        },
      ),
      graph('Series at the end of the day', 'Forecast from the growth of the last hour.', 'locale', {
        '{{metric}}': level('max', 'cl_daily_keys_forecast', { by: ['metric'] }),
        'all metrics, now': level('max', 'cl_daily_keys_all'),
      }),
    ],
    Points: [
      graph('Accepted', 'Metric points that passed.', POINTS, {
        accepted: perSecond('sum', 'receiver_items_total', { where: { signal: 'metrics' } }),
      }),
      graph('Held back', 'Dropped by reason, merged, overflow.', POINTS, {
        'dropped: {{reason}}': perSecond('sum', 'cl_dropped_samples_total', { by: ['reason'] }),
        merged: perSecond('sum', 'cl_aggregated_samples_total'),
        overflow: perSecond('sum', 'cl_overflow_samples_total'),
      }),
      graph(
        'Time per request',
        'Time that the limiter takes for one request.',
        's',
        percentiles('cl_latency_seconds'),
        { width: 24 },
      ),
    ],
  },
};
