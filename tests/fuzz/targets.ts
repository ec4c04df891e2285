/** What takes bytes from outside: each target throws only the errors that are its own. */
import zlib from 'node:zlib';
import { ConfigError, exampleFile, loadConfig } from '@nrdot/config';
import { CONTENT_ENCODINGS, decodeContent, jsonToProtobuf, OtlpError, splitRequest, walk } from '@nrdot/otlp';
import { SegmentLog } from '@nrdot/segment-log';
import { BatchMaker, type TestSignal, workload } from '@nrdot/testbed';
import { options, readAll, record, seeded } from '../../shared/segment-log/test/fixture.ts';
import { SimulatedDisk } from '../../shared/segment-log/test/simulated-disk.ts';
import type { Random } from './mutate.ts';

export interface Target {
  name: string;
  /** Sound inputs to begin from. */
  corpus(): Promise<Buffer[]>;
  /** @throws only what `known` knows */
  take(bytes: Buffer, random: Random): Promise<void> | void;
  known(error: unknown): boolean;
}

const SIGNALS: readonly TestSignal[] = ['traces', 'metrics', 'logs'];
const MAX_DECODED_BYTES = 1024 * 1024;
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
];

function isSegment(path: string): boolean {
  return /\/\d{16}\.(seg|open)$/.test(path);
}

function diskWith() {
  const disk = new SimulatedDisk(seeded(1));
  return { disk, o: options(disk).o };
}
