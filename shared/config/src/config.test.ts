import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  ConfigError,
  configurationReference,
  exampleFile,
  hasUpstream,
  loadConfig,
  options,
  parseDuration,
  parseListen,
  parseSize,
  readChanges,
} from './index.ts';

const load = (text: string, env: Record<string, string> = {}, overrides = {}) =>
  loadConfig({ text, file: 'nrdot.yaml', env, overrides });
const problems = (text: string, env: Record<string, string> = {}): string[] => {
  try {
    load(text, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n');
    throw error;
  }
  return [];
};
const root = (file: string) => readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8');

describe('the configuration', () => {
  it.each([
    ['segment_bytes: 1KiB', 'dlq.segment_bytes', '64KiB to 4GiB'],
    ['segment_bytes: 5GiB', 'dlq.segment_bytes', '64KiB to 4GiB'],
    ['ballast: 1KiB', 'dlq.ballast', '64KiB to 1GiB'],
    ['ballast: 2GiB', 'dlq.ballast', '64KiB to 1GiB'],
  ])('keeps sizes on disk within bounds: dlq.%s', (option, path, expected) => {
    const found = problems(`dlq: {${option}}\n`).join(' ');
    expect(found).toContain(path);
    expect(found).toContain(expected);
  });

  it('refuses a key_ttl that no limiter could work with', () => {
    expect(problems('limiter: {key_ttl: 999ms}\n').join(' ')).toContain(
      'limiter.key_ttl: expected a duration of at least 1s',
    );
    expect(problems('limiter: {key_ttl: 1s}\n')).toEqual([]);
  });

  it('states the maximum of a count without a default', () => {
    expect(problems('exporter: {account_limits: {requests_per_minute: 1e99}}\n').join(' ')).toContain(
      'exporter.account_limits.requests_per_minute: 1e+99 — expected a whole number from 1 to 9007199254740991',
    );
  });

  it('reports all errors at once, each with its line, including conflicts between options', () => {
    const text = [
      'redis:',
      '  url: http://here',
      'breaker: { open_min: 9s, open_max: 1s }',
      'exporter:',
      '  timeout: soon',
      '  headers: { api-key: "${env:NOT_SET}" }',
      'priority:',
      '  rules:',
      '    - { class: high, severity: { min: 99 } }',
      'limiter:',
      '  overrides: [{ metric: m, act_above: 7 }]',
    ].join('\n');
    expect(problems(text).sort()).toEqual([
      'nrdot.yaml:11: limiter.overrides[0].act_above: 7 — expected a number from 0 to 1',
      'nrdot.yaml:2: redis.url: expected a URL that begins with redis://, rediss:// or unix://',
      'nrdot.yaml:3: breaker.open_min: expected at most breaker.open_max',
      'nrdot.yaml:5: exporter.timeout: "soon" — expected a duration such as 500ms, 30s or 72h, at most 24d',
      'nrdot.yaml:6: exporter.headers.api-key: expected the environment variable NOT_SET to be set',
      'nrdot.yaml:9: priority.rules[0].severity.min: 99 — expected a severity number from 1 to 24, or trace, debug, info, warn, error or fatal',
    ]);
    // What is compared with something that is wrong is compared when that is mended.
    expect(problems('queue: { max_bytes: lots }\nredis: { private: { maxmemory: 100MiB } }')).toEqual([
      'nrdot.yaml:1: queue.max_bytes: "lots" — expected a size such as 128MiB, 4MB or 1048576',
    ]);
  });

  it('recognizes the configuration of a Collector', () => {
    const collector = 'receivers: { otlp: {} }\nexporters: { otlphttp: {} }\nservice: { pipelines: {} }';
    expect(problems(collector)).toEqual([
      'nrdot.yaml: expected a configuration of NRDOT+; this looks like one of an OpenTelemetry Collector: "nrdot convert nrdot.yaml" translates it',
    ]);
    expect(problems('receivers: {}')[0]).toMatch(/did you mean receiver\?/); // one alone is a slip
  });

  it('has a default for every required option', () => {
    const { config } = loadConfig({ env: {} });
    expect(config.receiver.listen).toEqual({ host: '127.0.0.1', port: 4318 });
    expect(config.scheduler.weights).toEqual({ critical: 5, high: 3, normal: 1 });
    expect(config.dlq.replayBytesPerSecond).toBe(4 * 1024 * 1024);
    expect(config.dlq.segmentBytes).toBe(128 * 1024 * 1024);
    expect(config.queue.spillAt).toBe(0.95);
    expect(config.exporter.endpoint).toBeUndefined();
  });

  it('takes at most 2,000 values as changes, however few bytes they have', () => {
    const rules = (count: number) => ({ priority: { rules: Array(count).fill({}) } });
    expect(() => readChanges(rules(2_001))).toThrow('expected at most 2,000 values');
    expect(() => readChanges(JSON.stringify(rules(2_001)))).toThrow('expected at most 2,000 values');
    expect(readChanges(rules(1_000))).toHaveProperty(['priority.rules', 'length'], 1_000);
  });

  it.each([
    ['', 1024],
    ['dlq: {capacity: 1GiB}', 512],
    ['dlq: {capacity: 1GiB, rejected_capacity: 700MiB}', 700],
  ])('leaves room on disk for more than rejected batches: %s', (text, expected) => {
    expect(load(text).config.dlq.rejectedCapacityBytes).toBe(expected * 1024 * 1024);
  });

  it('lets the file override the defaults and the command line override the file, and reports the source', () => {
    const loaded = load('exporter:\n  timeout: 3s\n  concurrency: 4\n', {}, { 'exporter.timeout': '1500ms' });
    expect(loaded.config.exporter.timeoutMs).toBe(1500);
    expect(loaded.config.exporter.concurrency).toBe(4);
    const source = (path: string) => loaded.explain().find((setting) => setting.path === path)?.source;
    expect(source('exporter.timeout')).toBe('command line');
    expect(source('exporter.concurrency')).toBe('nrdot.yaml:3');
    expect(source('dlq.capacity')).toBe('default');
  });

  it('reports line, path, value and expectation for all problems at once', () => {
    const found = problems(
      'scheduler:\n  weights: {normal: 0, high: -1}\nexporter:\n  timout: 5s\n  timeout: fast\n',
    );
    expect(found).toContain(
      'nrdot.yaml:5: exporter.timeout: "fast" — expected a duration such as 500ms, 30s or 72h, at most 24d',
    );
    expect(found).toContain(
      'nrdot.yaml:4: exporter.timout: expected an option that exists; did you mean timeout?',
    );
    expect(found).toContain(
      'nrdot.yaml:2: scheduler.weights.normal: 0 — expected a whole number from 1 to 1000',
    );
    expect(found).toContain(
      'nrdot.yaml:2: scheduler.weights.high: -1 — expected a whole number from 1 to 1000',
    );
  });

  it.each([
    ['{url: "redis://x", tls: {ca_file: /a}}', /redis\.tls: expected enabled: true, or a rediss:\/\/ URL/],
    ['{url: "redis://x", tls: {insecure_skip_verify: true}}', /redis\.tls: expected enabled: true/],
    ['{url: "unix:///x", tls: {enabled: true}}', /redis\.tls\.enabled: expected a Redis that is reached/],
    ['{tls: {enabled: true}}', /redis\.tls\.enabled/],
    ['{url: "redis://x", sentinel_password: a}', /redis\.sentinels/],
    ['{url: "redis://x", sentinel_name: a}', /redis\.sentinels/],
    ['{sentinels: ["a:1"], sentinel_username: a}', /redis\.sentinel_password/],
    ['{url: "redis://x", username: a}', /redis\.password: expected a password with username/],
    ['{username: a, password: b}', /redis\.password: expected url, sentinels or cluster/],
    ['{url: "redis://a:b@x", password: c}', /redis\.url: expected a user and password in the URL, or/],
    ['{url: "rediss://x", tls: {ca_file: /a}}', undefined],
    ['{url: "redis://x", tls: {enabled: true, ca_file: /a, server_name: x}}', undefined],
    ['{sentinels: ["a:1"], sentinel_username: a, sentinel_password: b, tls: {enabled: true}}', undefined],
  ] as const)('rejects a Redis option that would have no effect: %s', (redis, expected) => {
    const found = problems(`redis: ${redis}`);
    if (expected) expect(found).toEqual([expect.stringMatching(expected)]);
    else expect(found).toEqual([]);
  });

  it('rejects contradictory values, and rules that cannot work', () => {
    expect(problems('a: &a [*a, *a]')[0]).toMatch(/outside of itself/);
    expect(problems('queue: {resume_at: 0.99}')[0]).toMatch(
      /queue\.resume_at: expected less than queue\.spill_at/,
    );
    expect(problems('breaker: {open_min: 90s}')[0]).toMatch(/breaker\.open_min/);
    for (const limiter of ['{daily_mode: enforce}', '{daily_mode: enforce, daily_keys: 9, mode: observe}'])
      expect(problems(`limiter: ${limiter}`)[0]).toMatch(
        /limiter\.daily_mode: expected observe, or enforce with/,
      );
    expect(problems('limiter: {daily_mode: enforce, daily_keys: 9}')).toEqual([]);
    expect(problems('redis: {url: "redis://x", cluster: ["a:1"]}')[0]).toMatch(/only one of/);
    expect(problems('queue: {max_bytes: 1GiB}')[0]).toMatch(/redis\.private\.maxmemory/);
    expect(problems('queue: {per_class: {normal: {max_bytes: lots}, high: {max_items: 0}}}')).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/queue\.per_class\.normal\.max_bytes: "lots" — expected a size/),
        expect.stringMatching(/queue\.per_class\.high\.max_items: 0 — expected a whole number/),
      ]),
    );
    expect(problems('queue: {per_class: {normal: {max_items: 60000000}}}')[0]).toMatch(
      /queue\.per_class\.normal\.max_items: expected at most queue\.max_items/,
    );
    const rule = (text: string) => problems(`priority:\n  rules:\n    - ${text}\n`)[0];
    expect(rule('{class: urgent}')).toMatch(
      /nrdot\.yaml:3: priority\.rules\[0\]\.class: "urgent" — expected one of critical/,
    );
    expect(rule('{class: high, metric: {regex: "("}}')).toMatch(
      /priority\.rules\[0\]\.metric\.regex: .* expected a regular expression in the syntax of RE2: missing closing \)/,
    );
    expect(rule(`{class: high, span: {regex: "${'a'.repeat(300)}"}}`)).toMatch(/at most 256 characters/);
    expect(rule('{class: high, severity: {min: loud}}')).toMatch(/severity number from 1 to 24/);
    expect(rule('{class: high, severity: {min: fatal, max: debug}}')).toMatch(
      /priority\.rules\[0\]\.severity: expected min to be at most max/,
    );
    expect(rule('{class: high, span: a, severity: {min: error}}')).toMatch(
      /priority\.rules\[0\]: expected parts that are of one signal; span is of traces, severity of logs/,
    );
    expect(rule('{class: high, signal: logs, metric: a}')).toMatch(
      /priority\.rules\[0\]: expected parts that are of one signal; metric is of metrics, signal of logs/,
    );
    expect(rule('{class: high, signal: traces, span: a, status: error}')).toBeUndefined();
    expect(rule('{class: high, colour: red}')).toMatch(/priority\.rules\[0\]\.colour/);
  });

  it('rejects input that is not YAML, not a map, or has duplicate keys', () => {
    expect(problems('a: [')[0]).toMatch(/nrdot\.yaml:1.*valid YAML/);
    expect(problems('queue: {}\nqueue: {}')[0]).toMatch(/nrdot\.yaml:2.*unique/);
    expect(problems('- 1')[0]).toMatch(/sections of options/);
    expect(problems('queue: 5')[0]).toMatch(/queue: expected a section/);
    expect(problems('admin: {token: *hunter2}')[0]).toMatch(/expected every \*alias to have its &anchor/);
    for (const [text, line] of [
      ['queue: &x {a: *x}', 1],
      ['scheduler: &x 1\nqueue: &x {a: *x}', 2],
    ] as const)
      expect(problems(text)).toEqual([
        `nrdot.yaml:${line}: expected every *alias to have its &anchor, outside of itself`,
      ]);
    expect(loadConfig({ text: '&k log:\n  level: info\n  format: json', env: {} }).parsed.log.level).toBe(
      'info',
    );
    expect(problems('&k log:\n  level: *k')).toEqual([expect.stringMatching(/log\.level: "log"/)]);
    expect(problems(`x: &x 1\ny: [${'*x,'.repeat(100)}]`)[0]).toMatch(/expected an option that exists/);
    expect(problems(`x: &x 1\ny: [${'*x,'.repeat(100)}]\nz: *x`)).toEqual([
      'nrdot.yaml:3: expected at most 100 *aliases',
    ]);
    const merged = Array.from({ length: 40 }, (_, i) => `m${i + 1}: &m${i + 1} {<<: [*m${i}, *m${i}]}`);
    expect(problems(['%YAML 1.1\n---\nm0: &m0 {a: 1}', ...merged].join('\n'))).toEqual([
      'nrdot.yaml: expected at most 20,000 values, those that *aliases repeat included',
    ]);
    const nines = (what: string) => `[${Array(9).fill(what)}]`;
    const bomb = Array.from('bcdef', (name, i) => `${name}: &${name} ${nines(`*${'abcde'[i]}`)}`);
    expect(problems([`a: &a ${nines('x')}`, ...bomb].join('\n'))).toEqual([
      'nrdot.yaml: expected at most 20,000 values, those that *aliases repeat included',
    ]);
    for (const deep of [
      `a: ${'['.repeat(10_000)}${']'.repeat(10_000)}`,
      `a: ${'['.repeat(10_000)}`,
      `a:\n  ${'- '.repeat(5_000)}x`,
    ])
      expect(problems(deep)).toEqual([
        expect.stringMatching(
          /^nrdot\.yaml(:\d+)?: expected sections and lists that are nested at most 20 deep$/,
        ),
      ]);
    const warned = vi.spyOn(process, 'emitWarning').mockReturnValue();
    for (const key of [
      `${'? '.repeat(200)}a`,
      'queue: {[hunter2]: 1}',
      'queue: {? {a: hunter2} : 1}',
      'a: &a x\n*a : 1',
    ])
      expect(problems(key)).toEqual([
        expect.stringMatching(
          /^nrdot\.yaml:[12]: expected plain text before the ":", not a list, section or \*alias$/,
        ),
      ]);
    expect(warned).not.toHaveBeenCalled();
    expect(problems(`a: &a [${'1,'.repeat(20_000)}1]\nb: [${'*a,'.repeat(99)}]`)).toEqual([
      'nrdot.yaml: expected at most 20,000 values, those that *aliases repeat included',
    ]);
    expect(() => loadConfig({ file: '/nowhere/nrdot.yaml', env: {} })).toThrow(/expected a readable file/);
  });

  it('reads ${file:…} only from regular files of up to 64 KiB, and never blocks', () => {
    const dir = mkdtempSync(join(tmpdir(), 'nrdot-config-'));
    const at = (name: string) => join(dir, name);
    execFileSync('mkfifo', [at('fifo')]);
    writeFileSync(at('key'), 'secret\n');
    symlinkSync('key', at('link')); // as Kubernetes has secrets
    writeFileSync(at('most'), 'x'.repeat(64 * 1024));
    writeFileSync(at('more'), 'x'.repeat(64 * 1024 + 1));
    const key = (path: string) =>
      load(`exporter: {headers: {api-key: "\${file:${path}}"}}`).config.exporter.headers['api-key']?.reveal();
    expect(key(at('key'))).toBe('secret');
    expect(key(at('link'))).toBe('secret');
    expect(key(at('most'))).toHaveLength(64 * 1024);
    expect(key('/proc/self/comm')).not.toBe(''); // its size is 0
    for (const path of [at('fifo'), at('more'), dir, '/dev/zero', '/dev/null', at('none')])
      expect(() => key(path), path).toThrow(
        `exporter.headers.api-key: expected ${path} to be a readable file of at most 64 KiB`,
      );
    expect(() => loadConfig({ file: '/dev/zero', env: {} })).toThrow('expected a file of at most 1 MiB');
    rmSync(dir, { recursive: true });
  });

  it('substitutes the environment into values, never into structure', () => {
    const text =
      'exporter:\n  headers: {api-key: "${env:KEY}"}\n  endpoint: "${env:URL:-http://localhost:1}"\n';
    const { config } = load(text, { KEY: 'a: b c: d' });
    expect(config.exporter.headers['api-key']?.reveal()).toBe('a: b c: d');
    expect(config.exporter.endpoint).toBe('http://localhost:1');
    expect(problems(text)[0]).toBe(
      'nrdot.yaml:2: exporter.headers.api-key: expected the environment variable KEY to be set',
    );
    expect(problems(text, { KEY: 'a\r\nx-other: b' })[0]).toMatch(/without line breaks/);
    for (const name of ['constructor', 'toString', '__proto__']) {
      expect(
        problems(`redis: {prefix: "\${env:${name}}"}\n`, process.env as Record<string, string>),
        name,
      ).toEqual([`nrdot.yaml:1: redis.prefix: expected the environment variable ${name} to be set`]);
    }
  });

  it('reads a value with many substitutions in linear time, and names some of the invalid ones', () => {
    const value = (text: string) => problems(`redis: {prefix: "${text}"}\n`);
    // Each followed to the end, they take time that grows with their square.
    expect(value('${'.repeat(400_000))).toEqual([
      expect.stringMatching(/^nrdot\.yaml:1: redis\.prefix: "\$\{/),
    ]);
    expect(value('${}'.repeat(100_000)).length).toBeLessThan(30);
    expect(load('data_dir: "a${b"\n').config.dataDir).toBe('a${b');
  });

  it('accepts only tokens that a client can send', () => {
    const paths = ['receiver: {tokens: [', 'admin: {token: ', 'dlq: {token: '];
    const expected =
      /: expected a text of ASCII characters, without spaces at either end and without line breaks/;
    for (const path of paths) {
      const given = (value: string) => problems(`${path}${value}${path.endsWith('[') ? ']' : ''}}\n`);
      for (const none of ['" "', '"a\\nb"', '"a\\n"', '" a"', '"a "', '"d\u00e9f"', '"\u20ac"'])
        expect(given(none), `${path}${none}`).toEqual([expect.stringMatching(expected)]);
      expect(given('"aZ09-._~+/=! \'x"'), path).toEqual([]);
      expect(given('""'), path).toHaveLength(1);
    }
  });

  it('accepts any endpoint, and names a signal without one, or a full URL given as a base URL', () => {
    const own = (...signals: string[]) =>
      `exporter: {endpoints: {${signals.map((signal) => `${signal}: "http://h/v1/${signal}"`).join(', ')}}}`;
    expect(problems(own('traces'))).toEqual(
      ['metrics', 'logs', 'profiles'].map((signal) =>
        expect.stringMatching(
          new RegExp(
            `exporter\\.endpoints\\.${signal}: expected a URL, or exporter\\.endpoint for all signals`,
          ),
        ),
      ),
    );
    expect(hasUpstream(load(own('traces', 'metrics', 'logs', 'profiles')).config)).toBe(true);
    expect(hasUpstream(load('exporter: {endpoint: "http://h"}').config)).toBe(true);
    expect(hasUpstream(load('').config)).toBe(false);
    for (const [path, signal] of [
      ['/v1/traces', 'traces'],
      ['/otlp/v1/logs/', 'logs'],
      ['/v1development/profiles', 'profiles'],
    ] as const) {
      expect(problems(`exporter: {endpoint: "https://h${path}"}`)[0]).toMatch(
        new RegExp(
          `exporter\\.endpoint: "https://h.*expected a base URL: /v1.* is added.*exporter\\.endpoints\\.${signal}`,
        ),
      );
    }
    expect(problems('exporter: {endpoint: "https://h/v1/traces/otlp"}')).toEqual([]);
  });

  it('accepts each header once, whatever its case, and none that follows from the body', () => {
    const headers = (text: string) => problems(`exporter: {headers: {${text}}}`)[0];
    expect(headers('x-a: 1')).toMatch(
      /exporter\.headers\.x-a: expected a text: a number, true or false in quotes/,
    );
    expect(headers('x-a: true')).toMatch(/in quotes/);
    expect(headers('x-a: "1"')).toBeUndefined();
    expect(headers('Api-Key: a, api-key: b')).toMatch(/a header once: Api-Key and api-key are the same/);
    expect(headers('Content-Encoding: gzip')).toMatch(/no header of this name/);
    expect(headers('Content-Type: application/json')).toMatch(
      /application\/x-protobuf, which is always sent/,
    );
    expect(headers('Content-Type: application/x-protobuf')).toBeUndefined();
  });

  it('accepts a URL as proxy, and does not show it', () => {
    expect(problems('exporter: {proxy: "socks://user:hunter2@host"}')).toEqual([
      expect.stringMatching(
        /exporter\.proxy: expected a URL that begins with http:\/\/ or https:\/\/, or none$/,
      ),
    ]);
    const { config, explain } = load('exporter: {proxy: "http://user:hunter2@host:3128"}');
    expect(config.exporter.proxy?.reveal()).toBe('http://user:hunter2@host:3128');
    expect(JSON.stringify(explain())).not.toContain('hunter2');
  });

  it('accepts numbers and booleans from the environment, and rejects an empty placeholder', () => {
    const { config } = load(
      'exporter: {concurrency: "${env:N}"}\nredis: {url: "redis://x", tls: {enabled: "${env:T}"}}',
      {
        N: '4',
        T: 'true',
      },
    );
    expect([config.exporter.concurrency, config.redis.tls.enabled]).toEqual([4, true]);
    expect(problems('exporter: {headers: {k: "${KEY}"}}')[0]).toMatch(
      /exporter\.headers\.k: expected \$\{env:NAME\}/,
    );
  });

  it('ignores options without a value, but not parts of a rule or unknown options', () => {
    expect(load('exporter:\nqueue:\n  max_items:\n').config).toEqual(loadConfig({ env: {} }).config);
    expect(problems('priority: {rules: [{class: high, metric: }]}')[0]).toMatch(/rules\[0\]\.metric/);
    expect(problems('exporter: {timout: }')[0]).toMatch(/did you mean timeout/);
  });

  it('never shows a secret', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 12, maxLength: 40, unit: fc.constantFrom(...'abcdef0123456789') }),
        (key) => {
          const text =
            'exporter: {headers: {api-key: "${env:KEY}"}}\nadmin: {token: "${env:KEY}"}\nredis: {url: "${env:URL}"}\n';
          const loaded = load(text, { KEY: key, URL: `redis://:${key}@localhost:6379` });
          expect(loaded.config.admin.token?.reveal()).toBe(key);
          const shown = [
            JSON.stringify(loaded.config),
            inspect(loaded.config, { depth: 9, showHidden: true }),
            `${loaded.config.admin.token}`,
            JSON.stringify(loaded.explain()),
            ...problems(`${text}dlq: {capacity: no}\n`, { KEY: key, URL: `http://${key}` }),
            ...problems(`admin: {token: ["${key}"]}\nredis: {password: {a: "${key}"}}\n`),
            ...problems(`exporter: {endpoint: "https://u:${key}@host"}\nadmin: ${key}\nqueue: "${key}"\n`),
            ...problems(`exporter: {headers: {"x ${key}": a}}`),
            ...problems(`admin: {token: *${key}}`),
          ].join('\n');
          expect(shown).not.toContain(key);
        },
      ),
    );
  });

  it('is fully documented: the pages match the schema', () => {
    expect(root('docs/configuration.md')).toBe(configurationReference());
    expect(root('nrdot.example.yaml')).toBe(exampleFile());
    for (const { path, meta } of options()) expect(meta.doc, path.join('.')).toMatch(/\S.*[.…]$/);
  });

  it('has an example file that is valid if everything is uncommented', () => {
    const uncommented = exampleFile()
      .split('\n')
      .slice(2)
      .map((line) => line.replace(/^# /, ''))
      .join('\n');
    expect(load(uncommented).config).toEqual(loadConfig({ env: {} }).config);
    expect(load(exampleFile()).config).toEqual(loadConfig({ env: {} }).config);
  });
});

describe('units', () => {
  it('of size, duration and address are parsed, and everything else is rejected', () => {
    expect([parseSize('128MiB'), parseSize('1.5 KB'), parseSize(7), parseSize('7')]).toEqual([
      134217728, 1500, 7, 7,
    ]);
    expect([parseSize('1XB'), parseSize('-1'), parseSize('1e9'), parseSize(null), parseSize('')]).toEqual(
      Array(5).fill(undefined),
    );
    expect([parseDuration('1.5s'), parseDuration('72h'), parseDuration('0ms')]).toEqual([1500, 259200000, 0]);
    expect([parseDuration(5), parseDuration('5'), parseDuration('5 weeks')]).toEqual(
      Array(3).fill(undefined),
    );
    for (const mistyped of ['999.1.1.1:1', '127.0.0:4318', '1:4318', '[1.2.3.4]:1'])
      expect(parseListen(mistyped), mistyped).toBeUndefined();
    expect(parseListen('[::1]:4318')).toEqual({ host: '::1', port: 4318 });
    expect(parseListen(':80')).toEqual({ host: '::', port: 80 });
    expect([parseListen('x'), parseListen('x:70000'), parseListen('a:b:1')]).toEqual(
      Array(3).fill(undefined),
    );
  });
});
