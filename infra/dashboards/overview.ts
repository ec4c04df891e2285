import { BLUE, type Board, gauge, graph, greenUntil, stat, timeline } from './board.ts';
import { counts, level, NOW, perSecond, quantile, ratio } from './measure.ts';

const ITEMS = 'locale';
const PER_SECOND = 'suffix: items/s';
const FILL = greenUntil([0.8, 'orange'], [0.95, 'red']);
/** The items of the accounting in one state, by which the panel is named. */
const books = (title: string, description: string, extra: Parameters<typeof stat>[4]) => {
  const state = title.toLowerCase().replace(' ', '_');
  const measure = level('max', 'pipeline_accounting_items', { where: { state } });
  return stat(title, description, ITEMS, measure, { height: 4, width: 3, ...extra });
};
const BREAKER = {
  promql: 'max(apq_breaker_state{state="half_open"} + ignoring(state) 2 * apq_breaker_state{state="open"})',
  nrql: {
    select:
      "filter(max(apq_breaker_state), WHERE state = 'half_open') + 2 * filter(max(apq_breaker_state), WHERE state = 'open')",
    since: NOW,
  },
};
const ACCOUNT = {
  promql: 'max by (of) (pipeline_account_per_minute) / max by (of) (pipeline_account_limit_per_minute)',
  nrql: {
    select: 'max(pipeline_account_per_minute) / max(pipeline_account_limit_per_minute)',
    facet: ['of'],
    since: NOW,
  },
};
const BREAKER_NAMES = { 0: ['closed', 'green'], 1: ['half open', 'orange'], 2: ['open', 'red'] } as const;

/** Where the data is, whether any is lost, and why it waits. */
export const overview: Board = {
  uid: 'nrdot-overview',
  title: 'NRDOT+ 1 Overview',
  description: 'Where the data is, what is being lost (nothing), and why it waits.',
  rows: {
    'The path: accepted = delivered + queued + on disk + rejected + dropped': [
      books('Accepted', 'Items acknowledged since the pipeline was first started.', {
        thresholds: BLUE,
        width: 4,
      }),
      books('Queued', 'Items in Redis: waiting, being sent, or being spilled.', { thresholds: BLUE }),
      books('On disk', 'Items waiting on disk to be replayed. They are safe.', {
        thresholds: greenUntil([1, 'orange']),
      }),
      books('Delivered', 'Items that the upstream accepted.', { width: 4 }),
      books(
        'Rejected',
        'Items that the upstream rejected; kept on disk with the reason, replayed on command.',
        { thresholds: greenUntil([1, 'orange']) },
      ),
      books('Dropped', 'Items dropped by retention, capacity, damage or a partial success.', {
        thresholds: greenUntil([1, 'red']),
      }),
      stat(
        'Difference',
        'Items that the accounting does not explain. Varies while data moves; 0 when nothing moves.',
        ITEMS,
        {
          promql: 'max(abs(pipeline_accounting_items{state="difference"}))',
          nrql: {
            select: 'abs(latest(pipeline_accounting_items))',
            since: NOW,
            where: "state = 'difference'",
          },
        },
        { height: 4, thresholds: greenUntil([1, 'yellow']) },
      ),
      graph(
        'What moves',
        'Items in and out. If more is accepted than delivered, the queue fills; replayed items come from disk and are included in delivered.',
        PER_SECOND,
        {
          accepted: perSecond('sum', 'receiver_items_total'),
          delivered: perSecond('sum', 'exporter_delivered_items_total'),
          'spilled to disk': {
            promql: 'sum(max by (class, reason) (rate(apq_spill_total[$__rate_interval])))',
            nrql: { select: 'rate(sum(apq_spill_total), 1 second)', over: 'max' },
          },
          replayed: perSecond('sum', 'dlq_replayed_items_total'),
          rejected: perSecond('sum', 'exporter_rejected_items_total'),
          'dropped by the limiter': perSecond('sum', 'cl_dropped_samples_total'),
        },
        { width: 24 },
      ),
    ],
    'Why it waits': [
      stat(
        'Breaker',
        'Open: nothing is sent, all data goes to disk. Half open: one probe is in flight.',
        'none',
        BREAKER,
        { names: BREAKER_NAMES, thresholds: greenUntil([1, 'orange'], [2, 'red']) },
      ),
      stat(
        'Next probe in',
        'Time until the breaker probes the upstream again.',
        's',
        level('max', 'apq_breaker_probe_seconds'),
      ),
      gauge(
        'Queue',
        'Fill of the queue by bytes or items. From 95 % new data goes to disk.',
        'percentunit',
        level('max', 'apq_fill_ratio'),
        { thresholds: FILL },
      ),
      gauge('Disk', 'Use of dlq.capacity.', 'percentunit', level('max', 'dlq_utilization_ratio'), {
        thresholds: FILL,
      }),
      stat(
        'Oldest waiting',
        'Age of the oldest batch in Redis or on disk.',
        's',
        {
          promql: 'max(apq_oldest_age_seconds) > max(dlq_oldest_age_seconds) or max(dlq_oldest_age_seconds)',
          nrql: {
            select: "max(apq_oldest_age_seconds) AS 'in Redis', max(dlq_oldest_age_seconds) AS 'on disk'",
            since: NOW,
          },
        },
        { thresholds: greenUntil([60, 'orange'], [86_400, 'red']) },
      ),
      stat(
        'Disk empty in',
        'At the current replay rate, once the breaker is closed.',
        's',
        level('max', 'dlq_drain_seconds'),
      ),
      timeline('Breaker', 'State over time.', { breaker: BREAKER }, BREAKER_NAMES, { width: 12, height: 6 }),
      graph(
        'Breaker opened',
        'How often it opened, by reason: consecutive failures, quota (429), auth (401, 403), place (404 and the like); a failed probe opens it again.',
        'short',
        {
          '{{reason}}': counts('max', 'apq_breaker_transitions_total', '$__rate_interval', {
            where: { state: 'open' },
            by: ['reason'],
          }),
        },
        { width: 12, height: 6 },
      ),
      graph(
        'Fill',
        'How full each place is.',
        'percentunit',
        {
          queue: level('max', 'apq_fill_ratio'),
          disk: level('max', 'dlq_utilization_ratio'),
          limiter: ratio('max', 'cl_keys_used', 'cl_keys_limit'),
          exporters: ratio('sum', 'exporter_inflight', 'exporter_concurrency'),
        },
        { max: 1 },
      ),
      graph(
        'Latency of each hop, 99th percentile',
        'Request: until the client has its response. Wait: until the batch is sent. Upstream: until it responds. End to end: until that is recorded.',
        's',
        {
          request: quantile(0.99, 'receiver_request_seconds'),
          'into Redis': quantile(0.99, 'pipeline_redis_round_trip_seconds', { where: { step: 'enqueue' } }),
          wait: quantile(0.99, 'exporter_wait_seconds', { where: { origin: 'live' } }),
          upstream: quantile(0.99, 'exporter_request_seconds'),
          'end to end': quantile(0.99, 'pipeline_end_to_end_seconds', { where: { origin: 'live' } }),
        },
      ),
    ],
    'In and out': [
      graph('Bytes', 'In as on the wire and after decompression; out as sent.', 'Bps', {
        'in, wire': perSecond('sum', 'receiver_bytes_total', { where: { kind: 'wire' } }),
        'in, body': perSecond('sum', 'receiver_bytes_total', { where: { kind: 'body' } }),
        out: perSecond('sum', 'exporter_sent_bytes_total'),
      }),
      graph('Items accepted by signal', 'Spans, data points, log records, profiles.', PER_SECOND, {
        '{{signal}}': perSecond('sum', 'receiver_items_total', { by: ['signal'] }),
      }),
      graph(
        'Answers to clients',
        'Requests by status code; after a 503 clients keep their data and retry.',
        'reqps',
        { '{{code}}': perSecond('sum', 'receiver_requests_total', { by: ['code'] }) },
      ),
      graph('Refused requests', 'By reason; docs/operations.md explains each.', 'reqps', {
        '{{reason}}': perSecond('sum', 'receiver_refused_total', { by: ['reason'] }),
      }),
      graph('Answers of the upstream', 'Requests by outcome.', 'reqps', {
        '{{outcome}}': perSecond('sum', 'exporter_requests_total', { by: ['outcome'] }),
      }),
      graph('Retried', 'By reason, and repeated hand-overs (after a crash or a stall).', 'ops', {
        '{{reason}}': perSecond('sum', 'exporter_retries_total', { by: ['reason'] }),
        'duplicate hand-over': perSecond('sum', 'pipeline_duplicate_handovers_total'),
      }),
      graph(
        'Account limits',
        'Sent in the last minute, as a share of exporter.account_limits; beyond them the upstream answers 429.',
        'percentunit',
        { '{{of}}': ACCOUNT },
        { width: 24 },
      ),
    ],
  },
};
