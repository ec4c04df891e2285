/**
 * Whatever takes bytes from outside costs as those bytes do. Inputs are doubled and doubled again; steps are counted, not
 * time, so that the result is the same on every machine.
 */
import { afterAll, beforeAll, describe, it } from 'vitest';
import { expectLinear, type Sized } from './growth.ts';
import { Meter } from './meter.ts';
import { field, shapesOf, WALKED } from './shapes.ts';

/** Everything is loaded after the meter has started: see there. */
async function load() {
  return {
    ...(await import('@nrdot/otlp')),
    ...(await import('@nrdot/config')),
    ...(await import('@nrdot/queue')),
    ...(await import('../../services/receiver/src/classifier/classifier.ts')),
    ...(await import('../../services/receiver/src/limiter/index.ts')),
    ...(await import('../../services/receiver/src/limiter/options.ts')),
    ...(await import('../../services/receiver/src/limiter/test/options.ts')),
    ...(await import('../../services/receiver/src/check/check-report.ts')),
    ...(await import('../../services/receiver/src/check/request-check.ts')),
    ...(await import('../../services/receiver/src/check/request-fix.ts')),
    ...(await import('../../services/receiver/src/tap/sample.ts')),
    ...(await import('../../services/receiver/src/tap/redaction.ts')),
    ...(await import('../../services/exporter/src/outcome.ts')),
    ...(await import('../../services/dlq/src/export.ts')),
    ...(await import('../../services/dlq/src/selection.ts')),
    ...(await import('@nrdot/segment-log')),
    ...(await import('../../shared/segment-log/test/fixture.ts')),
    ...(await import('../../shared/segment-log/test/simulated-disk.ts')),
    ...(await import('../crash/redis.ts')),
    ...(await import('../crash/connection.ts')),
  };
}

let meter: Meter;
let product: Awaited<ReturnType<typeof load>>;
beforeAll(async () => {
  meter = Meter.start();
  product = await load();
});
afterAll(() => meter.stop());

const linear = (first: number, make: (n: number) => Sized) => expectLinear(meter, first, make);
const RULES = `priority:
  rules:
    - {class: critical, scope: {regex: "^n"}}
    - {class: critical, signal: traces, span: {regex: "^system"}}
    - {class: critical, signal: metrics, metric: {regex: "^system"}}
    - {class: high, signal: logs, severity: {min: error}}
    - {class: high, resource: {service.name: {regex: "7$"}}}
`;

const shapes = WALKED.flatMap((signal) => shapesOf(signal).map(([name, make]) => ({ name, signal, make })));

describe.each(shapes)('$signal: $name', ({ signal, make }) => {
  const over = (first: number, work: (body: Buffer) => unknown) =>
    linear(first, (n) => {
      const body = make(n);
      return { size: body.byteLength, work: () => work(body) };
    });

  it('walked', () => over(400, (body) => product.walk(signal, body)));

  it.each(['reject_item', 'replace'] as const)('repaired, or without bad items: %s', (invalidUtf8) => {
    const bad = field(1, field(1, field(1, field(1, Buffer.from([0xff])))), field(2, field(2), field(2)));
    return over(400, (body) => product.soundRequest(signal, Buffer.concat([body, bad]), { invalidUtf8 }));
  });

  it('classified and split', () => {
    const { priority } = product.loadConfig({ env: {}, text: RULES }).config;
    return over(400, (body) => new product.Classifier(priority).classify(signal, body));
  });

  it('split', () => over(400, (body) => product.splitRequest(signal, body)));

  it('cut into pieces', () =>
    over(400, (body) => product.cutRequest(signal, body, (bytes) => Math.max(100, 2 * bytes), Infinity)));

  it('split down to the last item', () =>
    over(60, (body) => {
      const apart = (part: Buffer): void => product.splitRequest(signal, part)?.forEach(apart);
      apart(body);
    }));

  it("checked against the backend's rules", () =>
    over(400, (body) => new product.RequestCheck(new product.CheckCounts()).request(signal, body, 0)));

  it("fixed for the backend's rules", () => over(400, (body) => new product.RequestFix().fix(signal, body)));

  it('sampled for a tap', () => over(400, (body) => product.sampleOf(signal, body, undefined, 5)));

  it('exported as JSON, and read again', () =>
    over(300, (body) => {
      const { parts } = product.exportParts({ envelope: { signal } as never, payload: body } as never);
      product.jsonToProtobuf(signal, Buffer.from([...parts!].join('')));
    }));

  // The scan in WebAssembly, whose steps are not counted, takes up to 64 KiB at a time.
  if (signal === 'metrics')
    it('limited, with room and without', () =>
      over(10_000, (body) => {
        for (const maxKeys of [65_536, 64]) {
          const options = product.limiterOptions({ maxKeys, aggregateLabels: ['k'] });
          const limiter = new product.CardinalityLimiter(options, { now: () => 1_000_000, seed: 1 });
          for (let i = 0; i < 2; i++) {
            limiter.process(body);
            limiter.keep();
          }
        }
      }));
});

describe('JSON', () => {
  const texts: Record<string, (n: number) => string> = {
    'unknown keys': (n) => `{${Array.from({ length: n }, (_, i) => `"k${i}":${i}`).join()}}`,
    'an unknown list': (n) => `{"x":[${'1,'.repeat(n)}1]}`,
    escapes: (n) => `{"resourceSpans":[{"schemaUrl":"${'\\u0041'.repeat(n)}"}]}`,
    'many strings with escapes': (n) => `{"resourceSpans":[${Array(n).fill('{"schemaUrl":"\\n"}').join()}]}`,
    digits: (n) =>
      `{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":0.${'1'.repeat(n)}}]}]}]}`,
    base64: (n) =>
      `{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"bytesValue":"${'AAAA'.repeat(n)}"}}]}}]}`,
    'white space': (n) => `{${' '.repeat(n)}"resourceSpans"${' '.repeat(n)}:[]}`,
    'brackets that do not end': (n) => `{"x":${'['.repeat(n)}`,
  };
  it.each(Object.entries(texts))('%s', (_, make) =>
    linear(1_000, (n) => {
      const body = Buffer.from(make(n));
      return { size: body.byteLength, work: () => attempt(() => product.jsonToProtobuf('traces', body)) };
    }),
  );
});

describe('the configuration', () => {
  const texts: Record<string, (n: number) => string> = {
    'unknown keys': (n) => Array.from({ length: n }, (_, i) => `k${i}: 1`).join('\n'),
    'unknown keys of a section': (n) =>
      `queue:\n${Array.from({ length: n }, (_, i) => `  k${i}: 1`).join('\n')}`,
    'keys with dots': (n) => Array.from({ length: n }, (_, i) => `a.k${i}: 1`).join('\n'),
    'a key given again and again': (n) => 'a: 1\n'.repeat(n),
    headers: (n) =>
      `exporter:\n  headers:\n${Array.from({ length: n }, (_, i) => `    k${i}: v`).join('\n')}`,
    labels: (n) => `limiter:\n  aggregate_labels: [${Array.from({ length: n }, (_, i) => `k${i}`).join()}]`,
    rules: (n) => `priority:\n  rules:\n${'    - {class: high, scope: a}\n'.repeat(n)}`,
    'rules that are none': (n) => `priority:\n  rules:\n${'    - {class: best}\n'.repeat(n)}`,
    substitutions: (n) => `data_dir: "${'${env:A}'.repeat(n)}"`,
    braces: (n) => `data_dir: "${'${'.repeat(n)}"`,
    'a long word': (n) => `${'k'.repeat(n)}: 1`,
    'aliases within an anchor': (n) => {
      const of = (what: string) => Array.from({ length: n }, (_, i) => `${what}k${i}`);
      return `x:\n${of('- &').join(' 1\n')} 1\n- &all [${of('*').join()}]\n- *all`;
    },
    'aliases in merged sections': (n) =>
      `%YAML 1.1\n---\na0: &k0 {x: 1}\n${Array.from({ length: n }, (_, i) => `a${i + 1}: &k${i + 1} {<<: [*k${i}, *k${i}]}`).join('\n')}`,
  };
  it.each(Object.entries(texts))('%s', (_, make) =>
    linear(200, (n) => {
      const text = make(n);
      return {
        size: text.length,
        work: () => {
          attempt(() => product.loadConfig({ text, file: 'a.yaml', env: { A: 'a' } }));
          attempt(() => product.loadConfig({ env: {}, applied: product.readChanges(text) }));
        },
      };
    }),
  );
});

it("the limiter's policy for a name, of a pattern with many *", () =>
  linear(2, (n) => {
    const overrides = [{ metric: `${'*_'.repeat(n)}*total` }];
    const policyOf = product.policyOf(product.limiterOptions({ overrides }));
    return { size: n, work: () => policyOf('_'.repeat(20)) };
  }));

describe('words', () => {
  const texts: Record<string, (n: number) => string> = {
    token: (n) => 'token'.repeat(n),
    'token ': (n) => 'token '.repeat(n),
    'token=': (n) => 'token='.repeat(n),
    'token and blanks': (n) => `token${' '.repeat(n)}`,
    '= and blanks': (n) => `=${' '.repeat(n)}`.repeat(2),
    'a.': (n) => 'a.'.repeat(n),
    'a://': (n) => 'a://'.repeat(n),
    'a letter': (n) => 'a'.repeat(n),
    '-----BEGIN ': (n) => '-----BEGIN '.repeat(n),
    '-----END ': (n) => `-----BEGIN ${'-----END '.repeat(n)}`,
    eyJ: (n) => 'eyJ.'.repeat(n),
    bearer: (n) => 'bearer '.repeat(n),
    quotes: (n) => `token="${"'".repeat(n)}`,
  };
  // Up to 512 characters: what is longer is cut first.
  it.each(Object.entries(texts))('redacted: %s', (_, make) =>
    linear(Math.max(4, Math.floor(64 / make(1).length)), (n) => {
      const text = make(n);
      return { size: text.length, work: () => product.redactText(text) };
    }),
  );

  it.each(['Retry-After', 'Content-Encoding', 'since', 'class'])('in %s', (what) =>
    linear(500, (n) => {
      const values = [' 1'.repeat(n), `${' '.repeat(n)}1`, 'Mon, '.repeat(n), '1'.repeat(n), ','.repeat(n)];
      const take = (value: string) => {
        if (what === 'Retry-After') product.parseRetryAfter(value, 0);
        else if (what === 'Content-Encoding') product.parseContentEncoding(value);
        else product.selectionOf({ [what]: value }, []);
      };
      return {
        size: n,
        work: () => {
          for (const value of values) attempt(() => take(value));
        },
      };
    }),
  );
});

describe('the upstream answers with', () => {
  it.each(['application/json', 'application/x-protobuf', 'text/plain'])('%s', (type) =>
    linear(500, (n) => {
      const body =
        type === 'application/json'
          ? Buffer.from(`{"message":"${'\\n'.repeat(n)}"}`)
          : field(2, Buffer.alloc(n, 'a'));
      return {
        size: n,
        work: () => {
          product.readStatus(body, type);
          product.readExportResponse('traces', body, type);
        },
      };
    }),
  );
});

describe('segments on disk', () => {
  it.each(['records', 'what looks like blocks'])('%s', async (what) => {
    const { SegmentLog, SimulatedDisk, options, record } = product;
    const disks = new Map<number, InstanceType<typeof SimulatedDisk>>();
    for (const n of [50, 200]) {
      const disk = new SimulatedDisk(() => 0.5);
      const log = await SegmentLog.open(options(disk, { segmentBytes: 1e9 }).o);
      for (let i = 0; i < n; i++)
        await log.append('normal', record(`r${i}`, 1, what === 'records' ? 50 : 10));
      await log.close();
      disks.set(n, disk);
    }
    await linear(50, (n) => ({
      size: n,
      work: async () => {
        const log = await SegmentLog.open(options(disks.get(n)!, { segmentBytes: 1e9 }).o);
        await log.close();
      },
    }));
  });
});

describe('a step in Redis', () => {
  it('completes a job of many batches', () => linear(64, (n) => ({ size: n, work: () => settleJobOf(n) })));
});

async function settleJobOf(n: number): Promise<void> {
  const redis = new product.RedisModel(() => 1_000);
  const connection = new product.ModelConnection('producer', (sent) =>
    queueMicrotask(() => {
      sent.execute(redis, Number.POSITIVE_INFINITY);
      sent.assure();
      sent.deliver();
    }),
  );
  const store = new product.Store(connection as never, STORE);
  const batches = Array.from({ length: n }, (_, i) => ({
    id: `b${i}`,
    signal: 'logs' as const,
    class: 'normal' as const,
    origin: 'live' as const,
    encoding: 'identity' as const,
    items: 1,
    receivedAt: 1_000,
    payload: Buffer.from('x'),
  }));
  await store.enqueue(
    batches.map((batch) => [batch]),
    1_000,
  );
  const weights = { critical: 1, high: 1, normal: 1 };
  await store.move({
    windowBatches: 64,
    windowBytes: 1e9,
    mergeBytes: 1e6,
    weights,
    maxPicks: 64,
    slotMs: 500,
  });
  const { jobs } = await store.take('export', {
    token: 't',
    lockMs: 1_000,
    maxJobs: 1,
    maxBytes: 1e9,
    alone: true,
    lookForLost: false,
  });
  const [job] = jobs;
  await store.settle(
    JSON.parse(job!.data),
    'export',
    { outcome: 'delivered' },
    { queue: 'export', id: job!.id, token: 't', ended: false },
  );
}

const STORE = {
  prefix: '{cost}',
  maxBytes: 1e9,
  maxItems: 1e9,
  spillAt: 0.95,
  spillHysteresis: 0.05,
  exportWindow: { batches: 64, bytes: 1e9 },
  breaker: {
    failures: 5,
    throttleRatio: 0.5,
    minAnswers: 10,
    windowMs: 1_000,
    minOpenMs: 100,
    maxOpenMs: 1_000,
  },
};

/** Errors are an answer like any other. */
function attempt(work: () => unknown): void {
  try {
    work();
  } catch {
    // what it says does not matter here
  }
}
