/** What takes bytes from outside: each target throws only the errors that are its own. */
import { connect } from 'node:net';
import zlib from 'node:zlib';
import { ConfigError, exampleFile, loadConfig } from '@nrdot/config';
import { CONTENT_ENCODINGS, decodeContent, jsonToProtobuf, OtlpError, splitRequest, walk } from '@nrdot/otlp';
import { SegmentLog } from '@nrdot/segment-log';
import { AdminServer, addConfigRoutes, LiveConfig } from '@nrdot/service';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { BatchMaker, type TestSignal, workload } from '@nrdot/testbed';
import type { ReplayRate } from '../../services/dlq/src/replay-rate.ts';
import type { Replayer } from '../../services/dlq/src/replayer.ts';
import { addRoutes } from '../../services/dlq/src/routes.ts';
import { CheckCounts } from '../../services/receiver/src/check/check-report.ts';
import { RequestCheck } from '../../services/receiver/src/check/request-check.ts';
import { RequestFix } from '../../services/receiver/src/check/request-fix.ts';
import { options, readAll, record, seeded } from '../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';
import { startReceiver } from '../security/receiver.ts';
import { limiterTarget } from './limiter.ts';
import type { Random } from './mutate.ts';

export interface Target {
  name: string;
  /** Sound inputs to begin from. */
  corpus(): Promise<Buffer[]>;
  /** A fresh input, where drawing finds what changing bytes hardly would. */
  draw?(random: Random): Buffer;
  /** @throws only what `known` knows */
  take(bytes: Buffer, random: Random): Promise<void> | void;
  known(error: unknown): boolean;
}

const SIGNALS: readonly TestSignal[] = ['traces', 'metrics', 'logs'];
const MAX_DECODED_BYTES = 1024 * 1024;
/** A request that was cut short waits for the rest: it is given up. */
const ANSWER_MS = 50;
const ANSWER_MAX_CHARS = 100_000;
const CONTENT = { maxBytes: MAX_DECODED_BYTES };
const bodies = (format: 'protobuf' | 'json') =>
  SIGNALS.flatMap((signal) => {
    const w = workload({ endpoint: 'http://localhost', signals: { [signal]: 1 }, format, seed: 3 });
    const maker = new BatchMaker(w, 1);
    return [1, 3, 20].map((items) => maker.make(items, 1_000_000).body);
  });
const signalOf = (random: Random) => SIGNALS[Math.floor(random() * SIGNALS.length)]!;
const isOtlp = (error: unknown) => error instanceof OtlpError;

export const TARGETS: readonly Target[] = [
  {
    name: 'wire',
    corpus: async () => bodies('protobuf'),
    take: (bytes, random) => {
      const signal = signalOf(random);
      const { items } = walk(signal, bytes);
      const counts = new CheckCounts();
      new RequestCheck(counts).request(signal, bytes, 0);
      const looked = counts.report().checked[signal] ?? 0;
      if (looked !== items) throw new Error(`of ${items} items ${looked} were held against the rules`);
      // What the backend would prune can be taken out, and no item goes with it.
      const fixed = walk(signal, new RequestFix().fix(signal, bytes).body).items;
      if (fixed !== items) throw new Error(`of ${items} items ${fixed} are left`);
      // What was taken can be cut in two, and nothing gets lost.
      const halves = splitRequest(signal, bytes);
      if (!halves) return;
      const sum = halves.reduce((total, half) => total + walk(signal, half).items, 0);
      if (sum !== items) throw new Error(`${items} items became ${sum} by splitting`);
    },
    known: isOtlp,
  },
  {
    name: 'json',
    corpus: async () => [
      ...bodies('json'),
      Buffer.from(
        '{"resourceSpans":[{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}]}',
      ),
      Buffer.from(`{"resourceLogs":${'['.repeat(500)}${']'.repeat(500)}}`),
    ],
    take: (bytes, random) => {
      const signal = signalOf(random);
      walk(signal, jsonToProtobuf(signal, bytes));
      if (({} as Record<string, unknown>).polluted !== undefined) throw new Error('a prototype was polluted');
    },
    known: isOtlp,
  },
  {
    name: 'decompression',
    corpus: async () => {
      const zeros = Buffer.alloc(8 * MAX_DECODED_BYTES);
      return [
        ...bodies('protobuf').flatMap((body) => [
          zlib.gzipSync(body),
          zlib.deflateSync(body),
          zlib.zstdCompressSync(body),
        ]),
        ...[zlib.gzipSync(zeros), zlib.deflateSync(zeros), zlib.zstdCompressSync(zeros)],
      ];
    },
    take: async (bytes, random) => {
      const encoding = CONTENT_ENCODINGS[Math.floor(random() * CONTENT_ENCODINGS.length)]!;
      const decoded = await decodeContent(bytes, encoding, CONTENT);
      if (encoding !== 'identity' && decoded.byteLength > MAX_DECODED_BYTES)
        throw new Error(`${decoded.byteLength} bytes came out`);
    },
    known: isOtlp,
  },
  {
    name: 'config',
    corpus: async () => [
      Buffer.from(exampleFile()),
      Buffer.from(
        'receiver: {listen: "127.0.0.1:0", tokens: ["${env:A}"]}\npriority:\n  rules: [{class: high}]\n',
      ),
      Buffer.from('a: &a [*a, *a]\nb: !!js/function "x"\n'),
    ],
    take: (bytes) => void loadConfig({ text: bytes.toString('utf8'), file: 'fuzz.yaml', env: {} }),
    known: (error) => error instanceof ConfigError,
  },
  {
    name: 'segments',
    corpus: async () => {
      const { disk, o } = diskWith();
      const log = await SegmentLog.open(o);
      for (let i = 0; i < 6; i++) await log.append('normal', record(`r${i}`, 2, 300));
      await log.close();
      return disk
        .paths()
        .filter(isSegment)
        .map((path) => Buffer.from(disk.bytes(path)));
    },
    take: async (bytes) => {
      const { disk, o } = diskWith();
      const first = await SegmentLog.open(o);
      await first.append('normal', record('r0', 2, 300));
      await first.close();
      const path = disk.paths().find(isSegment)!;
      disk.replace(path, bytes);
      const log = await SegmentLog.open({ ...o, fs: disk.fileSystem() });
      for (const { record: found } of await readAll(log, 'normal')) {
        const { id } = found.envelope;
        if (!Buffer.from(found.payload).equals(Buffer.alloc(found.payload.byteLength, id)))
          throw new Error(`${id} came back changed`);
      }
      await log.maintain();
      await log.close();
    },
    known: () => false,
  },
  {
    name: 'http',
    corpus: async () => {
      const head =
        'POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nConnection: close\r\n';
      const [body] = bodies('protobuf');
      return [
        Buffer.concat([Buffer.from(`${head}Content-Length: ${body!.byteLength}\r\n\r\n`), body!]),
        Buffer.concat([Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`)]),
        Buffer.from(`${head}Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd`),
        Buffer.from('OPTIONS /v1/logs HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nConnection: close\r\n\r\n'),
      ];
    },
    take: async (bytes) => {
      receiver ??= startReceiver();
      checkAnswer(await exchange((await receiver).port, bytes));
    },
    known: () => false,
  },
  {
    name: 'admin',
    corpus: async () =>
      [
        'GET /api/dlq/records/b1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        'GET /api/dlq/records?area=normal&limit=5&since=2026-01-01 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        'GET /api/dlq/segments/normal/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        'POST /api/dlq/replay?class=high&rate=100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
        'POST /api/config/preview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\r\n{"scheduler":{"weights":{"high":4}},"a"',
      ].map((text) => Buffer.from(text)),
    take: async (bytes) => {
      admin ??= startAdmin();
      checkAnswer(await exchange(await admin, bytes));
    },
    known: () => false,
  },
  limiterTarget(),
];

/** Sends bytes to a port as they are. @returns what came back before the connection ended */
function exchange(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect(port, '127.0.0.1');
    const done = () => {
      socket.destroy();
      resolve(said);
    };
    socket.setTimeout(ANSWER_MS, done);
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1');
      if (said.length > ANSWER_MAX_CHARS) done();
    });
    socket.on('error', done);
    socket.on('close', done);
    socket.end(bytes);
  });
}

/** Answers are HTTP, and none says that the server is at fault. */
function checkAnswer(said: string): void {
  if (said !== '' && !said.startsWith('HTTP/1.1 '))
    throw new Error(`it said ${JSON.stringify(said.slice(0, 200))}`);
  if (/^HTTP\/1\.1 500/m.test(said)) throw new Error(`it is at fault: ${said.slice(0, 500)}`);
}

let receiver: ReturnType<typeof startReceiver> | undefined;
let admin: Promise<number> | undefined;

async function startAdmin(): Promise<number> {
  const log = createLogger({ level: 'silent', format: 'json' });
  const server = new AdminServer(
    { listen: { host: '127.0.0.1', port: 0 } },
    new MetricsRegistry(['dlq']),
    log,
  );
  const { o } = diskWith();
  const segments = await SegmentLog.open(o);
  await segments.append('normal', record('b1', 2, 300));
  const replayer = {
    paused: false,
    outstanding: 0,
    pause: async () => {},
    replay: async () => {},
  } as unknown as Replayer;
  const rate = { bytesPerSecond: 1, setCap: () => {} } as unknown as ReplayRate;
  addRoutes(server, { segments, replayer, rate, log, now: Date.now });
  addConfigRoutes(server, new LiveConfig({ text: '', file: 'fuzz.yaml', env: {} }), () => {});
  return (await server.start()).port;
}

function isSegment(path: string): boolean {
  return /\/\d{16}\.(seg|open)$/.test(path);
}

function diskWith() {
  const disk = new SimulatedDisk(seeded(1));
  return { disk, o: options(disk).o };
}
