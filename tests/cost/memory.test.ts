/** What stays in memory after a request is bounded in bytes, whatever was in it. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { loadConfig } from '@nrdot/config';
import type { BodyFormat, Signal } from '@nrdot/otlp';
import { expect, it } from 'vitest';
import { readBody } from '../../services/receiver/src/body.ts';
import { Classifier } from '../../services/receiver/src/classifier/classifier.ts';
import { CardinalityLimiter } from '../../services/receiver/src/limiter/index.ts';
import { limiterOptions } from '../../services/receiver/src/limiter/test/options.ts';
import { field } from './shapes.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const MIB = 2 ** 20;

function keptBytes(work: () => void): number {
  const held = () => {
    for (let i = 0; i < 2; i++) collect(); // the second sweeps what the first has found
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = held();
  work();
  return held() - before;
}

const metrics = (name: string) =>
  field(
    1,
    field(2, field(2, field(1, Buffer.from(name)), field(5, field(1, field(7, field(1, Buffer.from('k'))))))),
  );
const logs = (attribute: string) =>
  field(
    1,
    field(1, field(1, field(1, Buffer.from('pod')), field(2, field(1, Buffer.from(attribute))))),
    field(2, field(2)),
  );

const RULES = `priority:
  rules: [{class: high, metric: {regex: "x$"}}, {class: high, resource: {pod: {regex: "x$"}}}]`;

it('names of 2 MB, and attributes of resources', () => {
  const classifier = new Classifier(loadConfig({ env: {}, text: RULES }).config.priority);
  const take = (i: number) => {
    const long = `${i}${'n'.repeat(2 * MIB)}`;
    classifier.classify('metrics', metrics(long));
    classifier.classify('logs', logs(long));
  };
  take(0);
  expect(
    keptBytes(() => {
      for (let i = 1; i <= 60; i++) take(i);
    }),
  ).toBeLessThan(8 * MIB);
});

it('many names that never repeat', () => {
  const classifier = new Classifier(loadConfig({ env: {}, text: RULES }).config.priority);
  expect(
    keptBytes(() => {
      for (let i = 0; i < 20_000; i++) {
        classifier.classify('metrics', metrics(`${i}${'\u00e9'.repeat(900)}`));
        classifier.classify('logs', logs(`${i}${'\u00e9'.repeat(900)}`));
      }
    }),
  ).toBeLessThan(16 * MIB);
});

it('names in the limiter', () => {
  const limiter = new CardinalityLimiter(limiterOptions(), { now: () => 1_000_000, seed: 1 });
  limiter.process(metrics('a'));
  limiter.keep();
  expect(
    keptBytes(() => {
      for (let i = 0; i < 5_000; i++) {
        limiter.process(metrics(`${i}${'n'.repeat(i % 50 === 0 ? MIB : 300)}`));
        limiter.keep();
      }
    }),
  ).toBeLessThan(16 * MIB);
});

it('a body that arrives a byte at a time', async () => {
  const chunks = 100_000;
  const body = new Readable({ read: () => {} });
  const read = readBody(body, undefined, chunks, { reserve: () => {}, look: () => {}, release: () => {} });
  const kept = keptBytes(() => {
    for (let i = 0; i < chunks; i++) body.emit('data', Buffer.from('x'));
  });
  expect(kept).toBeLessThan(20 * chunks);
  body.emit('end');
  expect((await read).equals(Buffer.alloc(chunks, 'x'))).toBe(true);
});

it('removals by check.fix: eight million links in a heap of 48 MiB', {
  timeout: 60_000,
}, async () => {
  const fix = new URL('../../services/receiver/src/check/request-fix.ts', import.meta.url);
  const name = field(5);
  const fixed = new Worker(
    `import(${JSON.stringify(fix.href)}).then(({ RequestFix }) => {
       const { parentPort, workerData } = require('node:worker_threads');
       const sizes = workerData.map((body) => new RequestFix().fix('traces', Buffer.from(body)).body.byteLength);
       parentPort.postMessage(sizes);
     });`,
    {
      eval: true,
      workerData: [field(13), Buffer.concat([field(13), name])].map((unit) =>
        field(1, field(2, field(2, Buffer.alloc(4 * MIB * unit.byteLength, unit)))),
      ),
      resourceLimits: { maxOldGenerationSizeMb: 48 },
    },
  );
  const left = field(1, field(2, field(2, Buffer.alloc(4 * MIB * name.byteLength, name))));
  expect((await once(fixed, 'message'))[0]).toEqual([6, left.byteLength]);
});

it('removals from a request: two million items in a heap of 48 MiB', { timeout: 60_000 }, async () => {
  const cut = new Worker(
    `import(${JSON.stringify(import.meta.resolve('@nrdot/otlp'))}).then(({ splitRequest, walk }) => {
       const { parentPort, workerData } = require('node:worker_threads');
       const apart = (body) =>
         body.byteLength > 2 ** 17 ? splitRequest('logs', body).flatMap(apart) : [walk('logs', body).items];
       parentPort.postMessage(apart(Buffer.from(workerData)).reduce((sum, items) => sum + items, 0));
     });`,
    {
      eval: true,
      workerData: field(1, field(2, Buffer.alloc(4 * MIB, field(2)))),
      resourceLimits: { maxOldGenerationSizeMb: 48 },
    },
  );
  expect((await once(cut, 'message'))[0]).toBe(2 * MIB);
});

const ROOT = new URL('../../', import.meta.url).href;
const LARGE_BYTES = 32 * MIB;
/** The allocators keep up to two blocks of such a size, however many requests there were; a copy of each of three is more. */
const REST_MIB = 90;

/** What the thread for large requests makes of three in turn, in a process of its own, and what that takes, in MiB. */
function threeLarge(
  signal: Signal,
  format: BodyFormat,
  body: string,
): { said: string; peak: number; rest: number } {
  const code = `
    import { readFileSync, writeFileSync } from 'node:fs';
    import { LargeRequests } from '${ROOT}services/receiver/src/large-request.ts';
    import { field } from '${ROOT}tests/cost/shapes.ts';
    const inMib = (name) => Number(new RegExp(name + ':\\\\s+(\\\\d+)').exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
    const large = new LargeRequests();
    const options = { maxDepth: 64, invalidUtf8: 'reject_item', maxBodyBytes: ${LARGE_BYTES + 8 * MIB} };
    const read = (decoded) =>
      large.read({ signal: '${signal}', format: '${format}', decoded, options }).then(
        ({ items, pieces }) => items + ' in ' + pieces.length,
        ({ message }) => message,
      );
    const first = inMib('VmRSS');
    const bodies = [1, 2, 3].map(() => ${body});
    globalThis.gc();
    const before = inMib('VmRSS');
    writeFileSync('/proc/self/clear_refs', '5'); // VmHWM begins anew
    let said;
    while (bodies.length > 0) said = await read(bodies.pop());
    const peak = inMib('VmHWM') - before;
    // A thread takes a moment to end, and longer beside other work.
    for (const end = Date.now() + 30_000; inMib('VmRSS') - first > ${REST_MIB} && Date.now() < end; ) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    console.log(JSON.stringify({ said, peak, rest: inMib('VmRSS') - first }));
    await large.stop();`;
  const args = ['--expose-gc', '-e', code];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

const ZEROS = `Buffer.concat([
  Buffer.from('{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[0'),
  Buffer.alloc(${LARGE_BYTES}, ',0'),
  Buffer.from(']}]}}]}]}]}'),
])`;
const RECORD = `field(1, field(2, field(2, field(5, field(1, Buffer.alloc(${LARGE_BYTES}, 'x'))))))`;
const RECORDS = `field(1, field(2, Buffer.alloc(${LARGE_BYTES}, field(2, field(3, Buffer.alloc(124, 'x'))))))`;

it.runIf(process.platform === 'linux').each([
  [
    'JSON that is four times as large as protobuf',
    'metrics',
    'json',
    ZEROS,
    /^the body is larger than 41943040 bytes when converted; .* receiver\.max_body$/,
  ],
  ['one log record', 'logs', 'protobuf', RECORD, /^1 in 1$/],
  ['many log records', 'logs', 'protobuf', RECORDS, /^\d+ in \d+$/],
] as const)(
  'large requests, %s: a bounded number of copies in the thread, and none afterwards',
  // Node 24 itself rarely aborts where threads end and memory is collected: nodejs/node#64500.
  { timeout: 60_000, retry: 2 },
  (_, signal, format, body, said) => {
    const taken = threeLarge(signal, format, body);
    expect(taken.said).toMatch(said);
    expect(taken.peak).toBeLessThan(240);
    expect(taken.rest).toBeLessThanOrEqual(REST_MIB);
  },
);
