import { RE2JS } from 're2js';
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
import { PRESETS } from './preset.ts';

/**
 * Every option there is, with what it means, its default and its check: the one place. `docs/configuration.md` and
 * `nrdot.example.yaml` are generated from it.
 */

const LIVE = { live: true } as const;
const CLASS_NAMES = ['critical', 'high', 'normal'] as const;
const PATTERN_MAX_CHARS = 256;

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
    client_ca_file: optionalPath('Clients must show a certificate signed by one of these.'),
  });

const classCapacity = section('Beyond spill_at of these, new arrivals of the class go to the dlq.', {
  max_bytes: optionalSize('Payload bytes that wait in its queue.'),
  max_items: optionalCount('Items that wait in its queue.'),
});

/** A value must equal a text, or match `{ regex: … }`. */
const matcher = z.union(
  [
    z.string(),
    z.strictObject({
      regex: z
        .string()
        .max(PATTERN_MAX_CHARS, { error: `a regular expression of at most ${PATTERN_MAX_CHARS} characters` })
        .refine(isRegex, { error: `a regular expression of at most ${PATTERN_MAX_CHARS} characters` }),
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

const SEVERITY_FLOORS = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 } as const;

/** The lowest severity number that is meant, and the highest. */
function severityEnds(given: number | keyof typeof SEVERITY_FLOORS): { from: number; to: number } {
  if (typeof given === 'number') return { from: given, to: given };
  return { from: SEVERITY_FLOORS[given], to: SEVERITY_FLOORS[given] + 3 };
}

/** Which signal a part of a rule speaks about. */
const SIGNAL_OF = { span: 'traces', status: 'traces', metric: 'metrics', severity: 'logs' } as const;

const rule = z
  .strictObject({
    class: z.enum(CLASS_NAMES, { error: `one of ${CLASS_NAMES.join(', ')}` }),
    signal: z.enum(['traces', 'metrics', 'logs'], { error: 'one of traces, metrics, logs' }).optional(),
    resource: z.record(z.string(), matcher).optional(),
    scope: matcher.optional(),
    metric: matcher.optional(),
    span: matcher.optional(),
    status: z.enum(['unset', 'ok', 'error'], { error: 'one of unset, ok, error' }).optional(),
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
  .prefault(DEFAULT_RULES as never)
  .meta({
    doc: 'Rules in order; the first that matches decides. A rule has `class` and any of `signal`, `resource` (attribute: matcher), `scope`, `metric`, `span` (names), `status` (unset, ok, error), `severity` ({min, max}: 1 to 24, or trace … fatal); all of them must match. A matcher is a text, or `{regex: "…"}` in RE2 syntax, which matches in linear time whatever the pattern.',
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
      critical_action: z.enum(['drop', 'overflow'], { error: 'one of drop, overflow' }).optional(),
      aggregate_labels: z.array(z.string()).optional(),
      protected_labels: z.array(z.string()).optional(),
      gauge_reducer: z
        .enum(['last', 'min', 'max', 'mean', 'sum'], { error: 'one of last, min, max, mean, sum' })
        .optional(),
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
      sentinel_username: optionalText('ACL user of the sentinels, which have users of their own.'),
      sentinel_password: secret('Their password.'),
      cluster: addresses('Some nodes of a Redis Cluster.'),
      username: optionalText('ACL user.'),
      password: secret('Its password.'),
      prefix: text('nrdot', 'Begins every key, in braces, so that all keys share one slot of a Cluster.', {
        pattern: /^[A-Za-z0-9_.-]{1,64}$/,
        expected: 'letters, digits, _ . or -, at most 64',
      }),
      durability: choice(
        ['always', 'everysec'],
        'always',
        "What Redis' AOF has to promise before a 200: fsynced, or fsynced within a second.",
      ),
      min_replicas: count(
        0,
        "Replicas that must have a batch before a 200, so that a failover loses nothing acknowledged. Set Redis' min-replicas-to-write to the same, so that it refuses at once what it could not pass on; such batches go to the dlq's disk.",
        { min: 0, max: 16 },
      ),
      command_timeout: duration(
        '5s',
        'How long Redis may leave something unanswered. Then the connection is replaced, and a request goes to the dlq, which has 3 s; only then is it 503. From there on requests go to the dlq at once, until Redis answers.',
      ),
      tls: section('TLS to Redis, on with `enabled` or a rediss:// URL.', {
        enabled: flag(
          false,
          'Speak TLS, with every server and sentinel; one that does not is not spoken to.',
        ),
        ca_file: optionalPath('Certificates to trust, PEM.'),
        cert_file: optionalPath('Own certificate, PEM.'),
        key_file: optionalPath('Its key, PEM.'),
        server_name: optionalText(
          'Name that the certificates have to be for, where servers are reached by another one, such as the address that Sentinel gives.',
        ),
        insecure_skip_verify: flag(false, "Do not check the server's certificate. For tests only."),
      }),
      private: section('The Redis that `nrdot up` starts for itself.', {
        redis_server: text('redis-server', 'The program.'),
        maxmemory: size(
          '768MiB',
          'Its memory limit; above queue.max_bytes, since jobs and buffers need room too.',
        ),
      }),
    },
  ),
  receiver: section('OTLP/HTTP in.', {
    listen: listen('127.0.0.1:4318', 'Address to listen on; port 0 takes a free one.'),
    max_body: size('64MiB', 'Largest request, as it comes and after decompression; more is 413.'),
    max_header: size('16KiB', 'Largest header; more is 431.'),
    max_depth: count(64, 'Deepest nesting of messages; more is 400.', { max: 100 }),
    max_inflight: size('128MiB', 'Bytes of requests in memory at once; over it, 503 with Retry-After.'),
    max_connections: count(10_000, 'Connections at once; more are closed.', { max: 1_000_000 }),
    request_timeout: duration('30s', 'Time for a whole request to arrive.'),
    keep_alive: duration('75s', 'How long an idle connection is kept.'),
    path_prefix: pathPrefix(
      'Before the paths, such as `/otlp` for `/otlp/v1/traces`, where an ingress routes by path.',
    ),
    invalid_utf8: choice(
      ['reject_item', 'replace', 'reject_request'],
      'reject_item',
      'A string that is not UTF-8: its item is left out, and the client told by partial_success; or its bytes become U+FFFD; or the whole request is 400.',
    ),
    cors: section('For browsers that send from elsewhere.', {
      allowed_origins: origins(
        'Origins, such as https://shop.example.com; one may have one `*`, as in https://*.example.com; "*" alone: all. Empty: none.',
      ),
      allowed_headers: texts('Headers beside Content-Type and Content-Encoding.'),
      allow_credentials: flag(
        false,
        'Browsers may send cookies and the like; `sendBeacon` asks for it. They are not looked at. Not with "*" alone.',
      ),
      max_age: duration('2h', 'How long a browser may remember the answer.'),
    }),
    tokens: tokens('Clients must send one of these as `Authorization: Bearer …`. Empty: no check.', LIVE),
    tls: serverTls('the listener'),
  }),
  priority: section('Which class a batch gets.', {
    default_class: choice(CLASS_NAMES, 'normal', 'When no rule matches.', LIVE),
    resource_attribute: text(
      'nrdot.priority',
      'Resource attribute by which a sender names the class itself (critical, high, normal); it goes before the rules.',
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
    max_keys: count(65_536, 'Key-sets alive at once, of all receivers together.', {
      min: 64,
      max: 4_194_304,
    }),
    act_above: ratio(0.5, 'Share of the keys in use below which everything is admitted.', LIVE),
    aggregate_score: ratio(0.75, 'Score of a label from which it is given up, for the whole metric.', LIVE),
    critical_score: ratio(0.9, 'Score from which critical_action is taken instead.', LIVE),
    critical_action: choice(
      ['overflow', 'drop'],
      'overflow',
      'What becomes of a new key-set then, and of one for which there is no room. overflow: its points go into the otel.metric.overflow stream, so that totals stay true.',
      LIVE,
    ),
    key_ttl: duration('10m', 'After so long unseen a key-set may make room for another.', LIVE),
    aggregate_labels: texts('Labels to give up first, such as k8s.pod.uid.', LIVE),
    protected_labels: texts('Labels that are never given up.', LIVE),
    gauge_reducer: choice(
      ['last', 'min', 'max', 'mean', 'sum'],
      'last',
      'How points of a gauge that become equal are made one.',
      LIVE,
    ),
    temporality: choice(
      ['as-received', 'delta'],
      'as-received',
      'delta: all cumulative counters and histograms go out as deltas, merged or not, exactly once with any number of receivers. Sums that may fall stay cumulative. Needs `mode: enforce`, and Redis for each of their requests.',
    ),
    merged_temporality: choice(
      ['cumulative', 'delta'],
      'cumulative',
      'How cumulative counters and histograms go out once they are merged. `delta` needs no attribute that names the writer, and is what New Relic prefers. Sums that may fall stay cumulative.',
      LIVE,
    ),
    merge_interval: interval(
      '0s',
      'Merged points of a stream leave once in so long from each receiver, and wait in Redis until then. 0s: with each request.',
      LIVE,
    ),
    daily_keys: count(
      0,
      'Distinct series that a metric may have on a UTC day, of all receivers together. They are counted in Redis, and told: status, metrics, an alert at 80 %. 0: not counted; nor with `mode: off`.',
      { min: 0, max: 100_000_000, live: true },
    ),
    daily_mode: choice(
      ['observe', 'enforce'],
      'observe',
      'enforce: beyond daily_keys, new key-sets of the metric find no room, as in a full table, until midnight UTC.',
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
      'Fill at which new arrivals go to the dlq: normal first, high and critical nearer to full.',
    ),
    resume_at: ratio(0.9, 'Fill at which that ends again.'),
  }),
  scheduler: section('What goes next.', {
    weights: section('Shares of the classes in items, while all have work.', {
      critical: count(5, 'Weight of critical.', { max: 1_000, live: true }),
      high: count(3, 'Weight of high.', { max: 1_000, live: true }),
      normal: count(1, 'Weight of normal.', { max: 1_000, live: true }),
    }),
    export_window: count(
      64,
      'Batches of each signal between scheduler and exporters. Small keeps priorities sharp.',
      {
        max: 10_000,
      },
    ),
    export_window_bytes: size('64MiB', 'Bytes of each signal between them.'),
    merge_bytes: size(
      '960KiB',
      'With a backlog, batches of one signal and class go out together up to this size, as held, and up to exporter.max_request_bytes.',
    ),
    slot: duration('500ms', 'How long live and replayed work take turns when both wait.'),
    poll: duration('1s', 'Longest sleep.'),
  }),
  breaker: section('When to stop sending a signal, for all exporters together.', {
    failures: count(5, 'Failures in a row that open it.', { max: 1_000 }),
    throttle_ratio: ratio(0.3, 'Share of 429 in the window that opens it.'),
    min_answers: count(10, 'Answers the window must have for that.', { max: 100_000 }),
    window: duration('30s', 'Length of the window.'),
    open_min: duration('1s', 'Time open before the first probe; doubled by each probe that fails.'),
    open_max: duration('60s', 'Longest time open, unless Retry-After asks for more.'),
  }),
  exporter: section('OTLP/HTTP out.', {
    preset: choice(
      PRESETS,
      'auto',
      "Defaults for one kind of upstream; what is set by name goes before them. newrelic: request size, ages, statuses and protected labels as New Relic demands (docs/new-relic.md). auto: newrelic when an endpoint's host ends in nr-data.net. `nrdot validate --explain` shows what a preset has set.",
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
      'URL of the HTTP proxy by which the upstream is reached, with user and password where it asks for them. Without it, HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment count; `none`: no proxy.',
    ),
    timeout: duration('10s', 'Time for an answer.'),
    concurrency: count(16, 'Most requests of each signal at once, of each exporter; adapts below that.', {
      max: 1_000,
    }),
    min_concurrency: count(1, 'Fewest.', { max: 1_000 }),
    inflight_bytes: size('32MiB', 'Payload bytes in memory at once.'),
    compression: choice(
      ['as-received', 'none', 'gzip', 'zstd'],
      'as-received',
      'as-received sends the very bytes that came in, which costs nothing.',
    ),
    max_request_bytes: optionalSize(
      'Largest request on the wire. Larger batches are divided between their items before they are sent; a single item is not. Without it, a 413 of the upstream teaches it.',
    ),
    retry: section('Before a batch goes to the dlq.', {
      initial: duration('1s', 'First wait.'),
      max: duration('30s', 'Longest wait.'),
      multiplier: factor(2, 'From one wait to the next.'),
      jitter: ratio(0.5, 'Share of a wait that is random.'),
      max_attempts: count(8, 'Tries.', { max: 1_000 }),
      max_retry_after: duration('10m', 'A Retry-After beyond this is taken as this.'),
    }),
    retry_on: statuses('Statuses that are tried again like 503, whatever else they mean (docs/upstream.md).'),
    max_age: section(
      'Older batches, by when they were received, are dropped, counted as `too_old`. Default: no limit.',
      {
        traces: optionalAge('Of traces.'),
        metrics: optionalAge('Of metrics, such as 48h for New Relic, which drops older ones behind a 200.'),
        logs: optionalAge('Of logs.'),
        profiles: optionalAge('Of profiles.'),
      },
    ),
    account_limits: section(
      'What the account at the upstream may be sent in a minute, by all exporters together. It is shown how near it is; nothing is held back. Default: no limit.',
      {
        requests_per_minute: optionalCount('Requests, of each signal by itself.', LIVE),
        points_per_minute: optionalCount('Data points of metrics.', LIVE),
        records_per_minute: optionalCount('Spans and log records.', LIVE),
        bytes_per_minute: optionalSize('Bytes of request bodies, as they are sent.', LIVE),
      },
    ),
    tls: tls('the upstream'),
  }),
  dlq: section('Batches on disk.', {
    dir: optionalPath('Directory of the segments. Default: `dlq` in data_dir.'),
    listen: listen('127.0.0.1:4319', 'Where receivers hand in batches while Redis is away.'),
    token: token(
      'What receivers show the dlq as `Authorization: Bearer …`. Default: admin.token. Beyond this machine there must be one.',
    ),
    tls: serverTls("the dlq's intake"),
    ca_file: optionalPath(
      "Certificates by which receivers trust an https:// url, PEM; the system's when absent.",
    ),
    cert_file: optionalPath('Certificate that receivers show there, PEM; needed with tls.client_ca_file.'),
    key_file: optionalPath('Its key, PEM.'),
    url: optionalText('Where receivers find it; in one process it is found without.'),
    capacity: size('15GiB', 'Most bytes on disk.'),
    reserve: size('64MiB', 'Kept free on the disk, so that deletion and checkpoints always work.'),
    ballast: size(
      '16MiB',
      'Size of a file beside the segments, from 64KiB to 1GiB. When others have filled the disk to the last byte it goes, so that what is delivered can be removed; it comes back when there is room beside dlq.reserve.',
    ),
    when_full: choice(
      ['refuse', 'drop_oldest'],
      'refuse',
      'refuse: batches wait in Redis, and when that is full clients get 503. drop_oldest: the oldest of the lowest class go, counted.',
    ),
    retention: age(
      '72h',
      'How long a batch may lie on disk, in time that the dlq runs; after it, it is dropped, counted.',
    ),
    rejected_capacity: size(
      '1GiB',
      'Most bytes of batches that the upstream refused for good. Beyond it the oldest of them go, counted.',
    ),
    rejected_retention: age('168h', 'The same for batches that the upstream refused for good.'),
    segment_bytes: size(
      '128MiB',
      'Size at which a segment is sealed, from 64KiB to 4GiB; at most an eighth of the capacity is used.',
    ),
    replay_rate: rate('4MiB', 'Cap of replay, in uncompressed payload.', LIVE),
    poison_after: count(
      5,
      'Replays of a batch in vain, each with `exporter.retry.max_attempts` tries and while others of its signal are delivered, after which it is rejected.',
      { max: 1_000 },
    ),
    intake_concurrency: count(32, 'Batches written at once.', { max: 1_000 }),
  }),
  check: section(
    'What the backend would drop, prune or shorten behind a 200; docs/new-relic.md has the rules.',
    {
      sample: ratio(
        0,
        'Share of the acknowledged batches that are held against the rules of New Relic; 0: none, 1: all. Every one that is looked at is decompressed once more.',
        LIVE,
      ),
      fix: flag(
        false,
        'Take out of every request, before it is acknowledged, what New Relic would prune or shorten: counted, and no item is left out.',
        LIVE,
      ),
    },
  ),
  telemetry: section('What the pipeline tells of itself, for those who have no Prometheus to scrape it.', {
    otlp: section('The metrics of every process as OTLP metrics; docs/metrics.md says more.', {
      endpoint: pipelineOrEndpoint(
        'Where to: `pipeline` is its own receiver, that of the process or the one at `receiver.listen`; else a base URL, such as that of a receiver on another machine. Absent: nowhere.',
      ),
      headers: secretMap('Sent with every request, such as `api-key`.', LIVE),
      interval: period('60s', 'How often.'),
      temporality: choice(
        ['cumulative', 'delta'],
        'cumulative',
        'Counters and histograms as totals since the start of a process, or as what came since the last request that was taken.',
      ),
      attributes: textMap(
        'Added to the attributes of the resource, or in their place; `service.namespace` names the pipeline where there are several.',
      ),
      tls: tls('the endpoint'),
    }),
  }),
  admin: section('Health, metrics, console and commands of a process.', {
    listen: listen('127.0.0.1:8888', 'Address. Beyond this machine it needs a token.'),
    token: token('Needed as `Authorization: Bearer …` on all but the health checks.'),
    hosts: texts(
      'Names under which browsers may ask for it, beside localhost, IP addresses and, with a token, names within a cluster; such as ops.example.com of an ingress.',
    ),
    tls: serverTls('the admin address'),
    shutdown_timeout: duration(
      '20s',
      'How long the services of a process may take, all together, to finish what is in flight.',
    ),
  }),
});

export type ParsedOptions = z.output<typeof schema>;

function isRegex(pattern: string): boolean {
  try {
    RE2JS.compile(pattern);
    return true;
  } catch {
    return false;
  }
}
