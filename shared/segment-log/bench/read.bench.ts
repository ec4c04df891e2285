/**
 * How fast a sealed segment is read back, in MiB of payload per CPU-second and per second, beside what the disk (from the
 * page cache) and zstd can do at all; and what zstd takes to write it. Run: node shared/segment-log/bench/read.bench.ts
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compress, decompress } from '@mongodb-js/zstd';
import { BatchMaker } from '../../../tests/testbed/src/batch-maker.ts';
import { workload } from '../../../tests/testbed/src/workload.ts';
import { NodeFileSystem, readSegment, SegmentLog } from '../src/index.ts';

const MIB = 1024 * 1024;
const RAW_BYTES = 256 * MIB;
const BATCH = 500;
const CALLERS = 64;
/** About the size of the blocks that the log makes of batches like these. */
const CHUNK_BATCHES = 8;
const ROUNDS = 5;

function bodies(): Buffer[] {
  const maker = new BatchMaker(workload({ endpoint: 'http://localhost', batchSize: BATCH }), 7);
  return Array.from({ length: 64 }, (_, n) => maker.make(BATCH, 1_700_000_000_000 + n * 50).body);
}

/** One segment with so many bytes of payload. */
async function lay(dir: string, payloads: readonly Buffer[]): Promise<{ path: string; bytes: number }> {
  const log = await SegmentLog.open({
    dir,
    version: '0.0.0',
    fs: new NodeFileSystem(),
    segmentBytes: 512 * MIB,
    capacityBytes: 15 * 1024 * MIB,
    reserveBytes: 0,
    whenFull: 'refuse',
    retentionMs: 1e12,
    rejectedRetentionMs: 1e12,
    verifyBytesPerSecond: 32 * MIB,
    events: {
      corrupted: () => {},
      unreadable: () => {},
      ballast: () => {},
      dropped: () => {},
      writtenOff: () => {},
      fault: (error) => console.error(error.message),
    },
    now: Date.now,
  });
  let bytes = 0;
  let n = 0;
  const caller = async () => {
    while (bytes < RAW_BYTES) {
      const payload = payloads[n % payloads.length]!;
      bytes += payload.byteLength;
      const envelope = {
        ...{ id: `b${n++}`, signal: 'traces', class: 'normal', items: BATCH, encoding: 'identity' },
        ...{ receivedAt: Date.now(), reason: 'fill' },
      } as const;
      await log.append('normal', { envelope, payload });
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  await log.close();
  const area = join(dir, 'normal');
  const files = readdirSync(area).map((file) => join(area, file));
  const [path] = files.sort((a, b) => statSync(b).size - statSync(a).size);
  return { path: path!, bytes };
}

/** Median MiB per second, by the clock and by this process's CPU. */
async function rate(bytes: number, run: () => Promise<unknown> | unknown): Promise<string> {
  const rounds: { wall: number; cpu: number }[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const usage = process.cpuUsage();
    const startedAt = performance.now();
    await run();
    const seconds = (performance.now() - startedAt) / 1000;
    const { user, system } = process.cpuUsage(usage);
    if (round > 0) rounds.push({ wall: bytes / MIB / seconds, cpu: bytes / MIB / ((user + system) / 1e6) });
  }
  const middle = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!.toFixed(0);
  const [cpu, wall] = [middle(rounds.map((r) => r.cpu)), middle(rounds.map((r) => r.wall))];
  return `${cpu.padStart(6)} MiB per CPU-second, ${wall} per second`;
}

const dir = mkdtempSync(join(tmpdir(), 'nrdot-read-'));
try {
  const payloads = bodies();
  const { path, bytes } = await lay(join(dir, 'log'), payloads);
  const raw = Array.from({ length: payloads.length / CHUNK_BATCHES }, (_, i) =>
    Buffer.concat(payloads.slice(i * CHUNK_BATCHES, (i + 1) * CHUNK_BATCHES)),
  );
  const rawBytes = raw.reduce((sum, block) => sum + block.byteLength, 0);
  const packed = await Promise.all(raw.map((block) => compress(block, 3)));
  console.log(`MiB of payload, batches of ${BATCH} spans; median of ${ROUNDS}`);
  const rows: [string, string][] = [
    [
      'the log, record by record',
      await rate(bytes, async () => {
        let read = 0;
        for await (const { record } of readSegment(new NodeFileSystem(), path)) {
          read += record?.payload.byteLength ?? 0;
        }
        if (read !== bytes) throw new Error(`${read} bytes read of ${bytes}`);
      }),
    ],
    [
      'zstd alone, decompression',
      await rate(rawBytes, async () => {
        for (const block of packed) await decompress(block);
      }),
    ],
    [
      'zstd alone, compression at level three',
      await rate(rawBytes, async () => {
        for (const block of raw) await compress(block, 3);
      }),
    ],
    ['the file alone, from the page cache, as payload', await rate(bytes, () => readFileSync(path))],
  ];
  for (const [name, measured] of rows) console.log(`${measured}  ${name}`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
