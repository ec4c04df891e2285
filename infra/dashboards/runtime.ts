import { BLUE, type Board, graph, greenUntil, stat } from './board.ts';
import { counts, level, NOW, observed, perSecond, quantile, ratio } from './measure.ts';

/** Processes and Redis. */
export const runtime: Board = {
  uid: 'nrdot-runtime',
  title: 'NRDOT+ 5 Runtime',
  description: 'Processes and Redis: memory, CPU, event loop, garbage collection, round trips.',
  rows: {
    Processes: [
      stat(
        'Processes',
        'Processes that respond.',
        'locale',
        {
          promql: 'count(pipeline_build_info)',
          nrql: {
            select: 'uniqueCount(service.instance.id)',
            where: "metricName = 'pipeline_build_info'",
            since: NOW,
          },
        },
        { thresholds: BLUE },
      ),
      stat(
        'Versions',
        'More than one: an upgrade is in progress.',
        'locale',
        {
          promql: 'count(count by (version) (pipeline_build_info))',
          nrql: { select: 'uniqueCount(version)', where: "metricName = 'pipeline_build_info'", since: NOW },
        },
        { thresholds: greenUntil([2, 'orange']) },
      ),
      stat(
        'Without Redis',
        'Processes with a connection that cannot use Redis.',
        'locale',
        {
          promql: 'count(min by (instance) (pipeline_redis_up) == 0) or vector(0)',
          nrql: {
            // A process may have several connections.
            select: '1 - latest(pipeline_redis_up)',
            each: ['connection'],
            since: NOW,
            over: 'sum',
          },
        },
        { thresholds: greenUntil([1, 'red']) },
      ),
      stat('Largest process', 'RSS.', 'bytes', level('max', 'process_resident_memory_bytes'), {
        thresholds: BLUE,
      }),
      stat(
        'CPU',
        'Cores in use, all processes together.',
        'none',
        perSecond('sum', 'process_cpu_seconds_total'),
        { thresholds: BLUE },
      ),
      stat(
        'Youngest process',
        'Time since its start. Repeated drops mean restarts.',
        's',
        {
          promql: 'min(time() - process_start_time_seconds)',
          nrql: { select: 'max(timestamp) / 1000 - max(process_start_time_seconds)', since: NOW },
        },
        { thresholds: BLUE },
      ),
      graph('Memory', 'RSS of each process.', 'bytes', {
        '{{service}} {{instance}}': level('each', 'process_resident_memory_bytes'),
      }),
      graph('CPU', 'Cores in use.', 'none', {
        '{{service}} {{instance}}': perSecond('each', 'process_cpu_seconds_total'),
      }),
      graph('Heap and buffers', 'JavaScript heap in use, and memory of buffers outside it.', 'bytes', {
        'heap {{instance}}': level('each', 'nodejs_heap_size_used_bytes'),
        'buffers {{instance}}': level('each', 'nodejs_external_memory_bytes'),
      }),
      graph('Event-loop lag', '99th percentile and maximum between two scrapes.', 's', {
        '99 % {{instance}}': level('each', 'nodejs_eventloop_lag_p99_seconds'),
        'most {{instance}}': level('each', 'nodejs_eventloop_lag_max_seconds'),
      }),
      graph('Garbage collection', 'Share of time, by kind.', 'percentunit', {
        '{{kind}} {{instance}}': observed('sum', 'nodejs_gc_duration_seconds', {
          by: ['instance', 'kind'],
        }),
      }),
      graph('Open files', 'Relative to the limit of the process.', 'percentunit', {
        '{{instance}}': ratio('each', 'process_open_fds', 'process_max_fds'),
      }),
      graph(
        'Bytes in flight',
        'Payloads in memory: requests being received, requests being sent.',
        'bytes',
        {
          receiving: level('sum', 'receiver_inflight_bytes'),
          sending: level('sum', 'exporter_inflight_bytes'),
        },
        { width: 24 },
      ),
    ],
    Redis: [
      graph('Memory', 'In use, and maxmemory (0: no limit).', 'bytes', {
        used: level('max', 'pipeline_redis_memory_bytes'),
        limit: level('max', 'pipeline_redis_memory_limit_bytes'),
      }),
      graph('Round trips', 'Steps per second, by what they do.', 'ops', {
        '{{step}}': observed('count', 'pipeline_redis_round_trip_seconds', { by: ['step'] }),
      }),
      graph('Time of a step, 99th percentile', 'Round trip and fsync of the AOF included.', 's', {
        '{{step}}': quantile(0.99, 'pipeline_redis_round_trip_seconds', { by: ['step'] }),
      }),
      graph('Lost connections', 'Connections that were restored.', 'short', {
        '{{instance}}': counts('each', 'pipeline_redis_reconnects_total', '$__rate_interval'),
      }),
    ],
  },
};
