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

/** For each setting: the option that it becomes, the settings below it, or what else to do with it. */
interface Known {
  [setting: string]: string | Known | ((value: unknown, path: string) => void);
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
    for (const [name] of this.#members('processors'))
      this.#note(
        `processors.${name}`,
        NEEDLESS[typeOf(name)] ?? 'has no counterpart: keep a Collector in front of NRDOT+ for it',
      );
    const exporters = this.#members('exporters');
    const sends = ([name]: readonly [string, Tree]) => ['otlphttp', 'otlp_http'].includes(typeOf(name));
    const sending = exporters.filter(sends);
    const used = sending.find(([name]) => this.#isUsed(name)) ?? sending[0];
    for (const exporter of exporters) {
      const [name, settings] = exporter;
      const at = `exporters.${name}`;
      if (exporter === used) this.#exporter(at, settings);
      else if (sends(exporter))
        this.#note(at, 'NRDOT+ sends to one upstream: run another NRDOT+ for this one');
      else if (typeOf(name) === 'otlp')
        this.#note(
          at,
          'sends gRPC, which NRDOT+ does not support: set exporter.endpoint to the OTLP/HTTP address of the same backend',
        );
      else this.#note(at, 'has no counterpart: NRDOT+ sends OTLP/HTTP');
    }
    if (!used) this.#note('exporters', 'no otlphttp exporter: set exporter.endpoint yourself');
    for (const section of ['extensions', 'connectors'])
      for (const [name] of this.#members(section)) this.#note(`${section}.${name}`, 'has no counterpart');
    if (tree(this.#given.service)?.telemetry !== undefined)
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
    this.#each(`${at}.protocols.http`, protocols.http, {
      endpoint: (value) => this.#set('receiver.listen', String(value)),
      max_request_body_size: 'receiver.max_body',
      tls: {
        cert_file: 'receiver.tls.cert_file',
        key_file: 'receiver.tls.key_file',
        client_ca_file: 'receiver.tls.client_ca_file',
      },
      cors: {
        allowed_origins: 'receiver.cors.allowed_origins',
        allowed_headers: 'receiver.cors.allowed_headers',
        max_age: (seconds) => this.#set('receiver.cors.max_age', `${Number(seconds)}s`),
      },
    });
  }

  #exporter(at: string, exporter: Tree): void {
    if (exporter.compression === undefined)
      this.#note(
        at,
        'a Collector compresses with gzip by default; NRDOT+ keeps the compression that the data arrived with (exporter.compression)',
      );
    const { sizer = 'requests' } = tree(exporter.sending_queue) ?? {};
    this.#each(at, exporter, {
      endpoint: 'exporter.endpoint',
      traces_endpoint: 'exporter.endpoints.traces',
      metrics_endpoint: 'exporter.endpoints.metrics',
      logs_endpoint: 'exporter.endpoints.logs',
      headers: 'exporter.headers',
      timeout: (value, path) => this.#time('exporter.timeout', value, path),
      compression: (value, path) => {
        if (['gzip', 'zstd', 'none'].includes(String(value))) this.#set('exporter.compression', value);
        else this.#note(path, `"${value}" is not supported: expected gzip, zstd or none`);
      },
      tls: {
        ca_file: 'exporter.tls.ca_file',
        cert_file: 'exporter.tls.cert_file',
        key_file: 'exporter.tls.key_file',
        insecure_skip_verify: 'exporter.tls.insecure_skip_verify',
        insecure: () => {}, // the endpoint's scheme decides
      },
      sending_queue: {
        enabled: (on, path) => {
          if (on === false) this.#note(path, 'NRDOT+ always queues, in Redis and on disk');
        },
        num_consumers: 'exporter.concurrency',
        queue_size: (n, path) => {
          if (sizer === 'items' || sizer === 'bytes') this.#set(`queue.max_${sizer}`, n);
          else
            this.#note(
              path,
              'counts requests; NRDOT+ has queue.max_bytes and queue.max_items, and then dlq.capacity on disk',
            );
        },
        sizer: () => {},
        storage: (_, path) =>
          this.#note(path, 'not needed: the queue is in Redis with its AOF, and spills to disk'),
      },
      retry_on_failure: {
        enabled: (on, path) => {
          if (on === false) this.#note(path, 'NRDOT+ always retries (exporter.retry)');
        },
        initial_interval: (value, path) => this.#time('exporter.retry.initial', value, path),
        max_interval: (value, path) => this.#time('exporter.retry.max', value, path),
        multiplier: 'exporter.retry.multiplier',
        randomization_factor: 'exporter.retry.jitter',
        max_elapsed_time: (_, path) =>
          this.#note(
            path,
            'no time limit applies: after exporter.retry.max_attempts a batch goes to disk, for dlq.retention',
          ),
      },
    });
  }

  /** Translates the settings of a part, and lists those that are not known. */
  #each(at: string, part: unknown, known: Known): void {
    for (const [name, value] of Object.entries(tree(part) ?? {})) {
      if (value === null || value === undefined) continue;
      const path = `${at}.${name}`;
      const what = Object.hasOwn(known, name) ? known[name] : undefined;
      if (what === undefined) this.#note(path, 'has no counterpart');
      else if (typeof what === 'string') this.#set(what, value);
      else if (typeof what === 'function') what(value, path);
      else this.#each(path, value, what);
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
