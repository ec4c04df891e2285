import { type Board, graph, quantile, stat } from './board.ts';

/** Processes and Redis. */
export const runtime: Board = {
  uid: 'nrdot-runtime',
  title: 'NRDOT+ 5 Runtime',
  description: 'Processes and Redis: memory, CPU, event loop, garbage collection, round trips.',
  rows: [
    {
      title: 'Processes',
      panels: [
        stat('Processes', 'That answer.', 'locale', 'count(pipeline_build_info)', {
          height: 5,
          thresholds: [[null, 'blue']],
        }),
        stat(
          'Versions',
          'More than one: an upgrade is under way.',
          'locale',
          'count(count by (version) (pipeline_build_info))',
          {
            height: 5,
            thresholds: [
              [null, 'green'],
              [2, 'orange'],
            ],
          },
        ),
        stat(
          'Without Redis',
          'Processes with a connection that cannot use Redis.',
          'locale',
          'count(min by (instance) (pipeline_redis_up) == 0) or vector(0)',
          {
            height: 5,
            thresholds: [
              [null, 'green'],
              [1, 'red'],
            ],
          },
        ),
        stat('Largest process', 'RSS.', 'bytes', 'max(process_resident_memory_bytes)', {
          height: 5,
          thresholds: [[null, 'blue']],
        }),
        stat(
          'CPU',
          'Cores in use, all processes together.',
          'none',
          'sum(rate(process_cpu_seconds_total[$__rate_interval]))',
          {
            height: 5,
            thresholds: [[null, 'blue']],
          },
        ),
        stat(
          'Youngest process',
          'Since its start. Falling again and again: it restarts.',
          's',
          'min(time() - process_start_time_seconds)',
          {
            height: 5,
            thresholds: [[null, 'blue']],
          },
        ),
        graph('Memory', 'RSS of each process.', 'bytes', [
          ['{{service}} {{instance}}', 'process_resident_memory_bytes'],
        ]),
        graph('CPU', 'Cores in use.', 'none', [
          ['{{service}} {{instance}}', 'rate(process_cpu_seconds_total[$__rate_interval])'],
        ]),
        graph('Heap and buffers', 'JavaScript heap in use, and memory of buffers beside it.', 'bytes', [
          ['heap {{instance}}', 'nodejs_heap_size_used_bytes'],
          ['buffers {{instance}}', 'nodejs_external_memory_bytes'],
        ]),
        graph('Event-loop lag', '99th percentile and most between two scrapes.', 's', [
          ['99 % {{instance}}', 'nodejs_eventloop_lag_p99_seconds'],
          ['most {{instance}}', 'nodejs_eventloop_lag_max_seconds'],
        ]),
        graph('Garbage collection', 'Share of time, by kind.', 'percentunit', [
          [
            '{{kind}} {{instance}}',
            'sum by (instance, kind) (rate(nodejs_gc_duration_seconds_sum[$__rate_interval]))',
          ],
        ]),
        graph('Open files', 'Of those a process may have.', 'percentunit', [
          ['{{instance}}', 'process_open_fds / process_max_fds'],
        ]),
        graph(
          'Bytes under way',
          'Payloads in memory: requests being received, requests being sent.',
          'bytes',
          [
            ['receiving', 'sum(receiver_inflight_bytes)'],
            ['sending', 'sum(exporter_inflight_bytes)'],
          ],
          { width: 24 },
        ),
      ],
    },
    {
      title: 'Redis',
      panels: [
        graph('Memory', 'Used, beside maxmemory (0: no limit).', 'bytes', [
          ['used', 'max(pipeline_redis_memory_bytes)'],
          ['limit', 'max(pipeline_redis_memory_limit_bytes)'],
        ]),
        graph('Round trips', 'Steps per second, by what they do.', 'ops', [
          ['{{step}}', 'sum by (step) (rate(pipeline_redis_round_trip_seconds_count[$__rate_interval]))'],
        ]),
        graph('Time of a step, 99th percentile', 'Round trip and fsync of the AOF included.', 's', [
          ['{{step}}', quantile(0.99, 'pipeline_redis_round_trip_seconds', ['step'])],
        ]),
        graph('Lost connections', 'That came back.', 'short', [
          ['{{instance}}', 'increase(pipeline_redis_reconnects_total[$__rate_interval])'],
        ]),
      ],
    },
  ],
};
