import { parse } from 'yaml';

type Tree = { [key: string]: unknown };

/** A Collector's configuration, translated. */
export interface Translation {
  /** In the shape of nrdot.yaml. */
  config: Tree;
  /** Parts without a counterpart, and differences: `path: what about it`. */
  notes: string[];
}

const SECTIONS = ['receivers', 'processors', 'exporters', 'service', 'extensions', 'connectors'];

/** Processors that NRDOT+ does not need, and why. */
const NEEDLESS: Record<string, string> = {
  batch:
    'not needed: batches in a backlog are merged up to scheduler.merge_bytes; small requests are better batched by their senders',
  memory_limiter: 'not needed: receiver.max_inflight and queue.max_bytes bound the memory',
};
const UNITS_MS: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * Translates the configuration of an OpenTelemetry Collector: OTLP/HTTP receivers and exporters, with headers, TLS, queue and
 * retry. Everything else is listed.
 * @throws Error if it is no such configuration
 */
export function translate(text: string): Translation {
  const given = tree(parse(text));
  if (!given || !SECTIONS.some((name) => Object.hasOwn(given, name)))
    throw new Error(
      `this is not a Collector configuration; expected sections such as ${SECTIONS.join(', ')}`,
    );
  return new Translator(given).run();
}

class Translator {
  readonly #given: Tree;
  readonly #config: Tree = {};
  readonly #notes: string[] = [];

  constructor(given: Tree) {
    this.#given = given;
  }

  run(): Translation {
    for (const [name, receiver] of this.#members('receivers')) this.#receiver(name, receiver);
    for (const [name] of this.#members('processors')) {
      const reason = NEEDLESS[typeOf(name)];
      this.#note(
        `processors.${name}`,
        reason ?? 'has no counterpart: keep a Collector in front of NRDOT+ for it',
      );
    }
    const sending = this.#members('exporters').filter(([name]) =>
      ['otlphttp', 'otlp_http'].includes(typeOf(name)),
    );
    const used = sending.find(([name]) => this.#isUsed(name)) ?? sending[0];
    for (const [name, exporter] of this.#members('exporters')) {
      if (name === used?.[0]) this.#exporter(`exporters.${name}`, exporter);
      else if (['otlphttp', 'otlp_http'].includes(typeOf(name)))
        this.#note(`exporters.${name}`, 'NRDOT+ sends to one upstream: run another NRDOT+ for this one');
      else if (typeOf(name) === 'otlp')
        this.#note(
          `exporters.${name}`,
          'sends gRPC, which NRDOT+ does not support: set exporter.endpoint to the OTLP/HTTP address of the same backend',
        );
      else this.#note(`exporters.${name}`, 'has no counterpart: NRDOT+ sends OTLP/HTTP');
    }
    if (!used) this.#note('exporters', 'no otlphttp exporter: set exporter.endpoint yourself');
    for (const section of ['extensions', 'connectors'] as const)
      for (const [name] of this.#members(section)) this.#note(`${section}.${name}`, 'has no counterpart');
    const service = tree(this.#given.service) ?? {};
    if (service.telemetry !== undefined)
      this.#note(
        'service.telemetry',
        'metrics and health are at admin.listen; logging is set by log.level and log.format',
      );
    return { config: this.#config, notes: this.#notes };
  }

  #receiver(name: string, receiver: Tree): void {
    const at = `receivers.${name}`;
    if (typeOf(name) !== 'otlp') {
      this.#note(at, 'has no counterpart: NRDOT+ receives OTLP/HTTP; keep a Collector in front of it');
      return;
    }
    const protocols = tree(receiver.protocols) ?? {};
    if ('grpc' in protocols)
      this.#note(
        `${at}.protocols.grpc`,
        'is not received: have senders use http/protobuf, or keep a Collector in front of NRDOT+',
      );
    if (!('http' in protocols)) return;
    const http = tree(protocols.http) ?? {};
    this.#each(`${at}.protocols.http`, http, {
      endpoint: (value) => this.#set('receiver.listen', String(value)),
      max_request_body_size: (value) => this.#set('receiver.max_body', value),
      tls: (value, path) =>
        this.#each(path, tree(value) ?? {}, {
          cert_file: (file) => this.#set('receiver.tls.cert_file', file),
          key_file: (file) => this.#set('receiver.tls.key_file', file),
          client_ca_file: (file) => this.#set('receiver.tls.client_ca_file', file),
        }),
      cors: (value, path) =>
        this.#each(path, tree(value) ?? {}, {
          allowed_origins: (list) => this.#set('receiver.cors.allowed_origins', list),
          allowed_headers: (list) => this.#set('receiver.cors.allowed_headers', list),
          max_age: (seconds) => this.#set('receiver.cors.max_age', `${Number(seconds)}s`),
        }),
    });
  }

  #exporter(at: string, exporter: Tree): void {
    if (exporter.compression === undefined)
      this.#note(
        at,
        'a Collector compresses with gzip by default; NRDOT+ keeps the compression that the data arrived with (exporter.compression)',
      );
    this.#each(at, exporter, {
      endpoint: (value) => this.#set('exporter.endpoint', value),
      traces_endpoint: (value) => this.#set('exporter.endpoints.traces', value),
      metrics_endpoint: (value) => this.#set('exporter.endpoints.metrics', value),
      logs_endpoint: (value) => this.#set('exporter.endpoints.logs', value),
      headers: (value) => this.#set('exporter.headers', value),
      timeout: (value, path) => this.#time('exporter.timeout', value, path),
      compression: (value, path) => {
        if (['gzip', 'zstd', 'none'].includes(String(value))) this.#set('exporter.compression', value);
        else this.#note(path, `"${value}" is not supported: expected gzip, zstd or none`);
      },
      tls: (value, path) =>
        this.#each(path, tree(value) ?? {}, {
          ca_file: (file) => this.#set('exporter.tls.ca_file', file),
          cert_file: (file) => this.#set('exporter.tls.cert_file', file),
          key_file: (file) => this.#set('exporter.tls.key_file', file),
          insecure_skip_verify: (skip) => this.#set('exporter.tls.insecure_skip_verify', skip),
          insecure: () => {}, // the endpoint's scheme decides
        }),
      sending_queue: (value, path) => this.#queue(tree(value) ?? {}, path),
      retry_on_failure: (value, path) => this.#retry(tree(value) ?? {}, path),
    });
  }

  #queue(queue: Tree, at: string): void {
    const { sizer = 'requests' } = queue;
    this.#each(at, queue, {
      enabled: (on, path) => {
        if (on === false) this.#note(path, 'NRDOT+ always queues, in Redis and on disk');
      },
      num_consumers: (n) => this.#set('exporter.concurrency', n),
      queue_size: (n, path) => {
        if (sizer === 'items') this.#set('queue.max_items', n);
        else if (sizer === 'bytes') this.#set('queue.max_bytes', n);
        else
          this.#note(
            path,
            'counts requests; NRDOT+ has queue.max_bytes and queue.max_items, and then dlq.capacity on disk',
          );
      },
      sizer: () => {},
      storage: (_, path) =>
        this.#note(path, 'not needed: the queue is in Redis with its AOF, and spills to disk'),
    });
  }

  #retry(retry: Tree, at: string): void {
    this.#each(at, retry, {
      enabled: (on, path) => {
        if (on === false) this.#note(path, 'NRDOT+ always retries (exporter.retry)');
      },
      initial_interval: (value, path) => this.#time('exporter.retry.initial', value, path),
      max_interval: (value, path) => this.#time('exporter.retry.max', value, path),
      multiplier: (value) => this.#set('exporter.retry.multiplier', value),
      randomization_factor: (value) => this.#set('exporter.retry.jitter', value),
      max_elapsed_time: (_, path) =>
        this.#note(
          path,
          'no time limit applies: after exporter.retry.max_attempts a batch goes to disk, for dlq.retention',
        ),
    });
  }

  /** Calls the handler of each part, and lists the parts without one. */
  #each(at: string, part: Tree, known: Record<string, (value: unknown, path: string) => void>): void {
    for (const [name, value] of Object.entries(part)) {
      if (value === null || value === undefined) continue;
      const path = `${at}.${name}`;
      if (Object.hasOwn(known, name)) known[name]!(value, path);
      else this.#note(path, 'has no counterpart');
    }
  }

  #time(option: string, value: unknown, path: string): void {
    const ms = millisecondsOf(value);
    if (ms === undefined) this.#note(path, `"${value}" is not a valid duration`);
    else if (ms > 0) this.#set(option, ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`);
  }

  #set(option: string, value: unknown): void {
    const path = option.split('.');
    let at = this.#config;
    for (const key of path.slice(0, -1)) at = (at[key] ??= {}) as Tree;
    at[path.at(-1)!] = typeof value === 'string' ? environment(value) : mapped(value);
  }

  #note(path: string, about: string): void {
    this.#notes.push(`${path}: ${about}`);
  }

  #members(section: string): [string, Tree][] {
    return Object.entries(tree(this.#given[section]) ?? {}).map(([name, value]) => [name, tree(value) ?? {}]);
  }

  #isUsed(name: string): boolean {
    const pipelines = Object.values(tree(tree(this.#given.service)?.pipelines) ?? {});
    return pipelines.some((pipeline) => {
      const { exporters } = tree(pipeline) ?? {};
      return Array.isArray(exporters) && exporters.includes(name);
    });
  }
}

function tree(value: unknown): Tree | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Tree) : undefined;
}

/** `otlphttp/backup` has the type `otlphttp`. */
function typeOf(name: string): string {
  return name.split('/')[0]!;
}

/** A Collector also supports `${NAME}` and `$NAME`. */
function environment(value: string): string {
  return value.replace(
    /\$\{(?!env:|file:)([A-Za-z_]\w*)\}|\$(?!\{)([A-Za-z_]\w*)/g,
    (_, a, b) => `\${env:${a ?? b}}`,
  );
}

function mapped(value: unknown): unknown {
  const known = tree(value);
  if (!known) return value;
  return Object.fromEntries(Object.entries(known).map(([key, child]) => [key, environment(String(child))]));
}

/** Parses a Go duration: `5s`, `1m30s`, `1.5h`. */
function millisecondsOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Math.round(value / 1e6); // nanoseconds
  const text = String(value);
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return text === '0' ? 0 : undefined;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)];
  return Math.round(parts.reduce((sum, [, n, unit]) => sum + Number(n) * UNITS_MS[unit!]!, 0));
}
