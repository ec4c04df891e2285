import * as z from 'zod';
import {
  addresses,
  age,
  baseEndpoint,
  choice,
  count,
  duration,
  endpoint,
  factor,
  flag,
  interval,
  listen,
  type OptionMeta,
  oneOf,
  optionalAge,
  optionalCount,
  optionalPath,
  optionalSize,
  optionalText,
  origins,
  pathPrefix,
  period,
  pipelineOrEndpoint,
  rate,
  ratio,
  secret,
  secretMap,
  section,
  size,
  statuses,
  text,
  textMap,
  texts,
  token,
  tokens,
} from './options.ts';
import { checkPatterns, PATTERN_MAX_CHARS } from './patterns.ts';
import { PRESETS } from './preset.ts';
import { severityEnds } from './severity.ts';

/**
 * Every option there is, with what it means, its default and its check: the one place. `docs/configuration.md` and
 * `nrdot.example.yaml` are generated from it.
 */

const LIVE = { live: true } as const;
const CLASS_NAMES = ['critical', 'high', 'normal'] as const;

const tls = (who: string) =>
  section(`TLS for ${who}.`, {
    ca_file: optionalPath("Certificates to trust, PEM; the system's when absent."),
    cert_file: optionalPath('Own certificate, PEM, for mutual TLS.'),
    key_file: optionalPath('Its key, PEM.'),
    insecure_skip_verify: flag(false, "Do not check the other side's certificate. For tests only."),
  });

const serverTls = (where: string) =>
  section(`TLS on ${where}, on when a certificate is given.`, {
    cert_file: optionalPath('Certificate, PEM.'),
    key_file: optionalPath('Its key, PEM.'),
    client_ca_file: optionalPath('Clients must present a certificate signed by one of these.'),
  });

const classCapacity = section('Beyond spill_at of these, new arrivals of the class go to the dlq.', {
  max_bytes: optionalSize('Maximum payload bytes waiting in its queue.'),
  max_items: optionalCount('Maximum items waiting in its queue.'),
});

/** A value must equal a text, or match `{ regex: … }`. That it is valid is checked for all rules together. */
const matcher = z.union(
  [
    z.string(),
    z.strictObject({
      regex: z
        .string()
        .max(PATTERN_MAX_CHARS, { error: `a regular expression of at most ${PATTERN_MAX_CHARS} characters` }),
    }),
  ],
  {
    error: `a text, or {regex: "…"} with a valid regular expression of at most ${PATTERN_MAX_CHARS} characters`,
  },
);

const SEVERITY = 'a severity number from 1 to 24, or trace, debug, info, warn, error or fatal';
const severity = z.union(
  [
    z.number().int({ error: SEVERITY }).min(1, { error: SEVERITY }).max(24, { error: SEVERITY }),
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']),
  ],
  { error: SEVERITY },
);

/** Which signal a part of a rule speaks about. */
const SIGNAL_OF = { span: 'traces', status: 'traces', metric: 'metrics', severity: 'logs' } as const;

const rule = z
  .strictObject({
    class: oneOf(...CLASS_NAMES),
    signal: oneOf('traces', 'metrics', 'logs').optional(),
    resource: z.record(z.string(), matcher).optional(),
    scope: matcher.optional(),
    metric: matcher.optional(),
    span: matcher.optional(),
    status: oneOf('unset', 'ok', 'error').optional(),
    severity: z.strictObject({ min: severity.optional(), max: severity.optional() }).optional(),
  })
  // A rule that can never match is a mistake, and a silent one.
  .superRefine((given, context) => {
    const { min = 1, max = 24 } = given.severity ?? {};
    const isNumber = [min, max].every((end) => typeof end !== 'number' || (end >= 1 && end <= 24));
    if (isNumber && severityEnds(min).from > severityEnds(max).to) {
      context.addIssue({ code: 'custom', path: ['severity'], message: 'min to be at most max' });
    }
    const signals = Object.entries(SIGNAL_OF)
      .filter(([part]) => given[part as keyof typeof SIGNAL_OF] !== undefined)
      .concat(given.signal === undefined ? [] : [['signal', given.signal]]);
    const other = signals.find(([, signal]) => signal !== signals[0]?.[1]);
    if (!other) return;
    const message = `parts that are of one signal; ${signals[0]![0]} is of ${signals[0]![1]}, ${other[0]} of ${other[1]}`;
    context.addIssue({ code: 'custom', message });
  });

const DEFAULT_RULES = [{ class: 'critical', signal: 'metrics', metric: { regex: '^system\\.' } }];

const rules = z
  .array(rule, { error: 'a list of rules' })
  .superRefine(checkPatterns)
  .prefault(DEFAULT_RULES as never)
  .meta({
    doc: 'Rules in order; the first that matches decides. A rule has `class` and any of `signal`, `resource` (attribute: matcher), `scope`, `metric`, `span` (names), `status` (unset, ok, error), `severity` ({min, max}: 1 to 24, or trace … fatal); all of them must match. A matcher is a text, or `{regex: "…"}` in RE2 syntax, which matches in linear time whatever the pattern; all patterns together may have 30,000 characters when repetitions are written out.',
    kind: 'list of rules',
    default: DEFAULT_RULES,
    live: true,
  } satisfies OptionMeta);

const share = z.number({ error: 'a number from 0 to 1' }).min(0).max(1);
const overrides = z
  .array(
    z.strictObject({
      metric: z
        .string({ error: 'a metric name, in which * stands for anything' })
        .min(1)
        .max(PATTERN_MAX_CHARS),
      act_above: share.optional(),
      aggregate_score: share.optional(),
      critical_score: share.optional(),
      critical_action: oneOf('drop', 'overflow').optional(),
      aggregate_labels: z.array(z.string()).optional(),
      protected_labels: z.array(z.string()).optional(),
      gauge_reducer: oneOf('last', 'min', 'max', 'mean', 'sum').optional(),
    }),
    { error: 'a list of overrides' },
  )
  .prefault([])
  .meta({
    doc: 'For single metrics: `metric` (a name, `*` stands for anything) and any of act_above, aggregate_score, critical_score, critical_action, aggregate_labels, protected_labels, gauge_reducer. All that match apply, in order.',
    kind: 'list of overrides',
    default: [],
    live: true,
  } satisfies OptionMeta);

export const schema = section('NRDOT+', {
  data_dir: text('./nrdot-data', 'Where `nrdot up` keeps its Redis and the dlq its segments.'),
  log: section('The log, on standard error. It never holds payloads or secrets.', {
    level: choice(
      ['debug', 'info', 'warn', 'error', 'silent'],
      'info',
      'Least severe lines that are written.',
      LIVE,
    ),
    format: choice(['auto', 'text', 'json'], 'auto', 'auto: text on a terminal, JSON elsewhere.'),
  }),
  redis: section(
    'Where the queues are. Without `url`, `sentinels` and `cluster`, `nrdot up` runs a private Redis.',
    {
      url: secret('redis://, rediss:// or unix:// URL.'),
      sentinels: addresses('Sentinels to ask for the primary.'),
      sentinel_name: text('mymaster', 'Name of the primary that the sentinels watch.'),
      sentinel_username: optionalText('ACL user for the sentinels, which have users of their own.'),
      sentinel_password: secret('Their password.'),
      cluster: addresses('Some nodes of a Redis Cluster.'),
      username: optionalText('ACL user.'),
      password: secret('Its password.'),
      prefix: text('nrdot', 'Prefix of every key, in braces, so that all keys share one slot of a Cluster.', {
        pattern: /^[A-Za-z0-9_.-]{1,64}$/,
        expected: 'letters, digits, _ . or -, at most 64',
      }),
      durability: choice(
        ['always', 'everysec'],
        'always',
        'What the AOF must guarantee before a 200: fsynced, or fsynced within a second.',
      ),
      min_replicas: count(
        0,
        "Replicas that must have a batch before a 200, so that a failover loses nothing acknowledged. Set Redis' min-replicas-to-write to the same, so that it refuses at once what it could not pass on; such batches go to the dlq's disk.",
        { min: 0, max: 16 },
      ),
      command_timeout: duration(
        '5s',
        'How long a command may stay unanswered. Then the connection is replaced, and the request goes to the dlq, which has 3 s; only if that fails is it 503. Later requests go to the dlq at once, until Redis answers.',
      ),
      tls: section('TLS to Redis, on with `enabled` or a rediss:// URL.', {
        enabled: flag(false, 'Require TLS for all connections to servers and sentinels.'),
        ca_file: optionalPath('Certificates to trust, PEM.'),
        cert_file: optionalPath('Own certificate, PEM.'),
        key_file: optionalPath('Its key, PEM.'),
        server_name: optionalText(
          'Name that certificates are checked for, if servers are reached by another one, such as the address that Sentinel gives.',
        ),
        insecure_skip_verify: flag(false, "Do not check the server's certificate. For tests only."),
      }),
      private: section('The Redis that `nrdot up` starts for itself.', {
        redis_server: text('redis-server', 'Path or name of the redis-server program.'),
        maxmemory: size(
          '768MiB',
          'Its memory limit; above queue.max_bytes, since jobs and buffers need room too.',
        ),
      }),
    },
  ),
  receiver: section('OTLP/HTTP in.', {
    listen: listen('127.0.0.1:4318', 'Address to listen on; port 0 takes a free one.'),
    max_body: size(
      '64MiB',
      'Maximum size of a request, as sent, decompressed, and as protobuf; more is 413.',
    ),
    max_header: size('16KiB', 'Maximum size of the headers; more is 431.'),
    max_depth: count(64, 'Maximum nesting of messages; more is 400.', { max: 100 }),
    max_inflight: size('128MiB', 'Maximum bytes of requests in memory; above it, 503 with Retry-After.'),
    max_connections: count(10_000, 'Maximum connections; further ones are closed.', { max: 1_000_000 }),
    request_timeout: duration('30s', 'Time for a whole request to arrive.'),
    keep_alive: duration('75s', 'How long an idle connection is kept.'),
    path_prefix: pathPrefix(
      'Prefix of the paths, such as `/otlp` for `/otlp/v1/traces`, if an ingress routes by path.',
    ),
    invalid_utf8: choice(
      ['reject_item', 'replace', 'reject_request'],
      'reject_item',
      'What to do with a string that is not valid UTF-8: leave out its item, reported to the client by partial_success; replace its bytes by U+FFFD; or answer 400 to the whole request.',
    ),
    cors: section('For browsers that send from elsewhere.', {
      allowed_origins: origins(
        'Origins, such as https://shop.example.com; one may have one `*`, as in https://*.example.com; "*" alone: all. Empty: none.',
      ),
      allowed_headers: texts('Headers beside Content-Type and Content-Encoding.'),
      allow_credentials: flag(
        false,
        'Browsers may send credentials, which `sendBeacon` requires; they are ignored. Not with "*" alone.',
      ),
      max_age: duration('2h', 'How long a browser may cache the answer.'),
    }),
    tokens: tokens('Clients must send one of these as `Authorization: Bearer …`. Empty: no check.', LIVE),
    tls: serverTls('the listener'),
  }),
  priority: section('How the class of a batch is decided.', {
    default_class: choice(CLASS_NAMES, 'normal', 'When no rule matches.', LIVE),
    resource_attribute: text(
      'nrdot.priority',
      'Resource attribute by which a sender sets the class itself (critical, high, normal); takes precedence over the rules.',
      LIVE,
    ),
    rules,
  }),
  limiter: section('The cardinality of metrics; docs/limiter.md explains it.', {
    mode: choice(
      ['enforce', 'observe', 'off'],
      'enforce',
      'observe: decide and report, change nothing. off: metrics pass untouched.',
    ),
    max_keys: count(65_536, 'Maximum number of key-sets, of all receivers together.', {
      min: 64,
      max: 4_194_304,
    }),
    act_above: ratio(0.5, 'Share of max_keys in use below which everything is admitted.', LIVE),
    aggregate_score: ratio(0.75, 'Score from which a label is stripped, for the whole metric.', LIVE),
    critical_score: ratio(0.9, 'Score from which critical_action applies instead.', LIVE),
    critical_action: choice(
      ['overflow', 'drop'],
      'overflow',
      'What happens to a new key-set then, or if there is no room for it. overflow: its points go to the otel.metric.overflow stream, so that totals stay correct.',
      LIVE,
    ),
    key_ttl: duration('10m', 'A key-set not seen for so long, at least 1s, may be evicted.', LIVE),
    aggregate_labels: texts('Labels to strip first, such as k8s.pod.uid.', LIVE),
    protected_labels: texts('Labels that are never stripped.', LIVE),
    gauge_reducer: choice(
      ['last', 'min', 'max', 'mean', 'sum'],
      'last',
      'How points of a gauge that become equal are merged.',
      LIVE,
    ),
    temporality: choice(
      ['as-received', 'delta'],
      'as-received',
      'delta: all cumulative counters and histograms are sent as deltas, merged or not, exactly once with any number of receivers. Sums that may fall stay cumulative. Needs `mode: enforce`, and Redis for each of their requests.',
    ),
    merged_temporality: choice(
      ['cumulative', 'delta'],
      'cumulative',
      'Temporality of merged cumulative counters and histograms. `delta` needs no attribute for the writer, and is what New Relic prefers. Sums that may fall stay cumulative.',
      LIVE,
    ),
    merge_interval: interval(
      '0s',
      'How often each receiver sends the merged points of a stream, which are deferred in Redis until then. 0s: with each request.',
      LIVE,
    ),
    daily_keys: count(
      0,
      'Maximum distinct series of a metric per UTC day, of all receivers together. They are counted in Redis and reported: status, metrics, an alert at 80 %. 0: not counted; nor with `mode: off`.',
      { min: 0, max: 100_000_000, live: true },
    ),
    daily_mode: choice(
      ['observe', 'enforce'],
      'observe',
      'enforce: beyond daily_keys, new key-sets of the metric are treated as if the table were full, until midnight UTC.',
      LIVE,
    ),
    overrides,
  }),
  queue: section('What Redis may hold.', {
    max_bytes: size('512MiB', 'Payload bytes.'),
    max_items: count(50_000_000, 'Items.', { max: 10_000_000_000 }),
    per_class: section('What the queue of one class may hold of that; without these, all of it.', {
      critical: classCapacity,
      high: classCapacity,
      normal: classCapacity,
    }),
    spill_at: ratio(
      0.95,
      'Fill level from which new batches spill to the dlq: normal first, high and critical nearer to full.',
    ),
    resume_at: ratio(0.9, 'Fill level at which spilling stops.'),
  }),
  scheduler: section('What goes next.', {
    weights: section('Shares of the classes in items, while all have work.', {
      critical: count(5, 'Weight of critical.', { max: 1_000, live: true }),
      high: count(3, 'Weight of high.', { max: 1_000, live: true }),
      normal: count(1, 'Weight of normal.', { max: 1_000, live: true }),
    }),
    export_window: count(
      64,
      'Maximum batches of each signal between scheduler and exporters. A small window keeps priorities sharp.',
      { max: 10_000 },
    ),
    export_window_bytes: size('64MiB', 'Maximum bytes of each signal between them.'),
    merge_bytes: size(
      '960KiB',
      'With a backlog, batches of one signal and class are merged up to this size, as stored, and up to exporter.max_request_bytes.',
    ),
    slot: duration(
      '500ms',
      'Length of the time slots in which live and replayed batches alternate while both wait.',
    ),
    poll: duration('1s', 'Maximum time between two moves.'),
  }),
  breaker: section('When to stop sending a signal, for all exporters together.', {
    failures: count(5, 'Consecutive failures that open it.', { max: 1_000 }),
    throttle_ratio: ratio(0.3, 'Share of 429 in the window that opens it.'),
    min_answers: count(10, 'Minimum number of answers in the window for that.', { max: 100_000 }),
    window: duration('30s', 'Length of the window.'),
    open_min: duration('1s', 'Time open before the first probe; doubled by each failed probe.'),
    open_max: duration('60s', 'Maximum time open, unless Retry-After asks for more.'),
  }),
  exporter: section('OTLP/HTTP out.', {
    preset: choice(
      PRESETS,
      'auto',
      "Defaults for one kind of upstream; explicit options take precedence. newrelic: request size, ages, statuses and protected labels as New Relic demands (docs/new-relic.md). auto: newrelic when an endpoint's host ends in nr-data.net. `nrdot validate --explain` shows what a preset has set.",
    ),
    endpoint: baseEndpoint('Base URL of the upstream; `/v1/traces` and so on are added.'),
    endpoints: section('Full URLs for single signals. With all four of them, `endpoint` is not needed.', {
      traces: endpoint('For traces.'),
      metrics: endpoint('For metrics.'),
      logs: endpoint('For logs.'),
      profiles: endpoint('For profiles.'),
    }),
    headers: secretMap('Sent with each request, such as `api-key: ${env:NEW_RELIC_LICENSE_KEY}`.', LIVE),
    proxy: secret(
      'URL of the HTTP proxy for the upstream, with user and password if required. Without it, HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment apply; `none`: no proxy.',
    ),
    timeout: duration('10s', 'Time for an answer.'),
    concurrency: count(
      16,
      'Maximum concurrent requests per signal and exporter; the actual number adapts below that.',
      { max: 1_000 },
    ),
    min_concurrency: count(1, 'Minimum concurrent requests.', { max: 1_000 }),
    inflight_bytes: size(
      '32MiB',
      'Maximum payload bytes in memory; the same again for payloads that have to be decompressed, as for an upstream without gzip.',
    ),
    compression: choice(
      ['as-received', 'none', 'gzip', 'zstd'],
      'as-received',
      'as-received sends the received bytes unchanged, which costs nothing.',
    ),
    max_request_bytes: optionalSize(
      "Maximum size of a request on the wire. Larger batches are split between their items before they are sent; a single item is not. Without it, the limit is learned from the upstream's 413.",
    ),
    retry: section('Before a batch goes to the dlq.', {
      initial: duration('1s', 'Delay before the first retry.'),
      max: duration('30s', 'Maximum delay.'),
      multiplier: factor(2, 'Growth of the delay from one retry to the next.'),
      jitter: ratio(0.5, 'Random share of a delay.'),
      max_attempts: count(8, 'Maximum attempts, the first included.', { max: 1_000 }),
      max_retry_after: duration('10m', "Upper bound for the upstream's Retry-After."),
    }),
    retry_on: statuses('Statuses that are always retried, like 503 (docs/upstream.md).'),
    max_age: section(
      'Older batches, by when they were received, are dropped, counted as `too_old`. Default: no limit.',
      {
        traces: optionalAge('Of traces.'),
        metrics: optionalAge(
          'Of metrics, such as 48h for New Relic, which drops older ones although it answers 200.',
        ),
        logs: optionalAge('Of logs.'),
        profiles: optionalAge('Of profiles.'),
      },
    ),
    account_limits: section(
      'What the account at the upstream may be sent in a minute, by all exporters together. It is shown how near it is; nothing is held back. Default: no limit.',
      {
        requests_per_minute: optionalCount('Requests, per signal.', LIVE),
        points_per_minute: optionalCount('Data points of metrics.', LIVE),
        records_per_minute: optionalCount('Spans and log records.', LIVE),
        bytes_per_minute: optionalSize('Bytes of request bodies, as sent.', LIVE),
      },
    ),
    tls: tls('the upstream'),
  }),
  dlq: section('Batches on disk.', {
    dir: optionalPath('Directory of the segments. Default: `dlq` in data_dir.'),
    listen: listen('127.0.0.1:4319', 'Address for batches from receivers while Redis is away.'),
    token: token(
      'Receivers must send it as `Authorization: Bearer …`. Default: admin.token. Required beyond this machine.',
    ),
    tls: serverTls("the dlq's intake"),
    ca_file: optionalPath(
      "Certificates that receivers trust for an https:// url, PEM; the system's if absent.",
    ),
    cert_file: optionalPath('Client certificate of receivers, PEM; needed with tls.client_ca_file.'),
    key_file: optionalPath('Its key, PEM.'),
    url: optionalText('URL of the dlq for receivers; not needed within one process.'),
    capacity: size('15GiB', 'Maximum bytes on disk.'),
    reserve: optionalSize(
      'Kept free on the disk. Default: 64MiB, so that deletion and checkpoints always work; with the Redis of `nrdot up` on the same disk also what its AOF, with the rewriting of it, needs to grow to three times queue.max_bytes.',
    ),
    ballast: size(
      '16MiB',
      'Size of a file beside the segments, from 64KiB to 1GiB. When others have filled the disk completely it is removed, so that delivered batches can be deleted; it is restored when there is room beside dlq.reserve.',
    ),
    when_full: choice(
      ['refuse', 'drop_oldest'],
      'refuse',
      "refuse: batches wait in Redis, and once that is full, clients get 503. drop_oldest: the oldest batches are dropped and counted, rejected ones first, then the lowest class, but none of a class above the new batch's, and only rejected ones for a rejected one; if dropping them would not make the room, nothing is dropped, and the new batch waits as with refuse.",
    ),
    retention: age(
      '72h',
      'How long a batch is kept on disk, in running time of the dlq; then it is dropped and counted.',
    ),
    rejected_capacity: optionalSize(
      'Maximum bytes of batches that the upstream rejected. Default: 1GiB, or half of dlq.capacity if that is less. Beyond it, or if the disk has no room for another, the oldest of them are dropped and counted.',
    ),
    rejected_retention: age('168h', 'The same for batches that the upstream rejected.'),
    segment_bytes: size(
      '128MiB',
      'Size at which a segment is sealed, from 64KiB to 4GiB, or an eighth of the capacity if that is less.',
    ),
    replay_rate: rate('4MiB', 'Maximum rate of replay, in uncompressed payload.', LIVE),
    poison_after: count(
      5,
      'A batch is rejected after so many failed replays, each with `exporter.retry.max_attempts` attempts, while others of its signal are delivered.',
      { max: 1_000 },
    ),
    intake_concurrency: count(32, 'Maximum batches written concurrently.', { max: 1_000 }),
  }),
  check: section(
    'What the backend would drop, prune or shorten although it answers 200; docs/new-relic.md has the rules.',
    {
      sample: ratio(
        0,
        "Share of the acknowledged batches that are checked against New Relic's rules; 0: none, 1: all. Each checked batch is decompressed once more.",
        LIVE,
      ),
      fix: flag(
        false,
        'Remove from every request, before it is acknowledged, what New Relic would prune or shorten. This is counted, and no item is left out.',
        LIVE,
      ),
    },
  ),
  telemetry: section("The pipeline's own metrics as OTLP, without a Prometheus to scrape them.", {
    otlp: section('The metrics of every process as OTLP metrics; docs/metrics.md says more.', {
      endpoint: pipelineOrEndpoint(
        'Destination: `pipeline` is its own receiver, that of the process or the one at `receiver.listen`; otherwise a base URL, such as that of a receiver on another machine. Absent: none.',
      ),
      headers: secretMap('Sent with every request, such as `api-key`.', LIVE),
      interval: period('60s', 'How often.'),
      temporality: choice(
        ['cumulative', 'delta'],
        'cumulative',
        'Counters and histograms as totals since the start of the process, or as deltas since the last accepted request.',
      ),
      attributes: textMap(
        'Added to the attributes of the resource, or replacing them; `service.namespace` distinguishes several pipelines.',
      ),
      tls: tls('the endpoint'),
    }),
  }),
  admin: section('Health, metrics, console and commands of a process.', {
    listen: listen('127.0.0.1:8888', 'Address. Beyond this machine it needs a token.'),
    token: token('Required as `Authorization: Bearer …` on everything except the health checks.'),
    hosts: texts(
      'Host names that browsers may use, besides localhost, IP addresses and, with a token, names within a cluster; such as ops.example.com of an ingress.',
    ),
    tls: serverTls('the admin address'),
    shutdown_timeout: duration(
      '20s',
      'Time for all services of a process together to finish what is in flight.',
    ),
  }),
});

export type ParsedOptions = z.output<typeof schema>;
