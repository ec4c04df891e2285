/**
 * How fast the log takes payload, beside what the disk can do at all and beside a writer that fsyncs every batch; and
 * how small telemetry gets. Run: node shared/segment-log/bench/write.bench.ts [directory on the disk] [MiB per mode]
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { BatchMaker } from '../../../tests/testbed/src/batch-maker.ts';
import { workload } from '../../../tests/testbed/src/workload.ts';
import { NodeFileSystem, SegmentLog } from '../src/index.ts';

const MIB = 1024 * 1024;
const root = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'nrdot-bench-'));
const totalBytes = Number(process.argv[3] ?? 512) * MIB;
const CLASSES = { critical: 1, high: 3, normal: 6 };

function payloads(signal: 'traces' | 'metrics' | 'logs', batchSize: number): Buffer[] {
  const maker = new BatchMaker(
    workload({ endpoint: 'http://localhost', signals: { [signal]: 1 }, batchSize, classes: CLASSES }),
    7,
  );
  const made: Buffer[] = [];
  for (let bytes = 0; bytes < 24 * MIB; bytes += made.at(-1)!.byteLength) {
    made.push(maker.make(batchSize, 1_700_000_000_000 + made.length * 50).body);
  }
  return made;
}

async function openLog(dir: string): Promise<SegmentLog> {
  mkdirSync(dir);
  return SegmentLog.open({
    dir,
    version: '0.0.0',
    fs: new NodeFileSystem(),
    segmentBytes: 128 * MIB,
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
}

/** Appends from so many callers, each waiting for its own fsync. */
async function append(
  name: string,
  bodies: readonly Buffer[],
  callers: number,
  bytes: number,
): Promise<string> {
  const log = await openLog(join(root, name));
  let left = bytes;
  let n = 0;
  const usage = process.cpuUsage();
  const loop = performance.eventLoopUtilization();
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (left > 0) {
        const payload = bodies[n % bodies.length]!;
        left -= payload.byteLength;
        const id = `b${n++}`;
        await log.append('normal', {
          envelope: {
            id,
            signal: 'traces',
            class: 'normal',
            items: 500,
            encoding: 'gzip',
            receivedAt: Date.now(),
            reason: 'fill',
          },
          payload,
        });
      }
    }),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(usage);
  const busy = performance.eventLoopUtilization(loop).utilization;
  const { diskBytes, rawBytes } = log.stats('normal');
  await log.close();
  rmSync(join(root, name), { recursive: true });
  const rate = (bytes - left) / MIB / seconds;
  return `${rate.toFixed(0).padStart(5)} MiB/s  ratio ${(diskBytes / rawBytes).toFixed(3)}  ${n} batches  CPU ${((user + system) / 1e6 / seconds).toFixed(2)} cores  main thread ${(busy * 100).toFixed(0)} %  RSS ${(process.memoryUsage.rss() / MIB).toFixed(0)} MiB`;
}

/** The plain way: each batch as it is, written and fsynced, before the next. */
async function fsyncEach(bodies: readonly Buffer[], seconds: number): Promise<string> {
  const file = await open(join(root, 'plain'), 'w');
  let bytes = 0;
  const startedAt = performance.now();
  for (let n = 0; performance.now() - startedAt < seconds * 1000; n++) {
    const body = bodies[n % bodies.length]!;
    await file.write(body, 0, body.byteLength, bytes);
    await file.datasync();
    bytes += body.byteLength;
  }
  const took = (performance.now() - startedAt) / 1000;
  await file.close();
  return `${(bytes / MIB / took).toFixed(0).padStart(5)} MiB/s`;
}

async function sequential(bytes: number): Promise<string> {
  const chunk = Buffer.alloc(MIB, 'x1y2');
  const file = await open(join(root, 'sequential'), 'w');
  const startedAt = performance.now();
  for (let at = 0; at < bytes; at += MIB) await file.write(chunk, 0, MIB, at);
  await file.datasync();
  const took = (performance.now() - startedAt) / 1000;
  await file.close();
  rmSync(join(root, 'sequential'));
  return `${(bytes / MIB / took).toFixed(0).padStart(5)} MiB/s`;
}

try {
  console.log(`the disk, sequentially, one fsync at the end   ${await sequential(totalBytes)}`);
  for (const [signal, batchSize] of [
    ['traces', 500],
    ['metrics', 500],
    ['logs', 500],
    ['traces', 20],
  ] as const) {
    const bodies = payloads(signal, batchSize);
    const raw = bodies.reduce((sum, body) => sum + body.byteLength, 0);
    const sample = bodies.slice(0, 50);
    const sampleBytes = sample.reduce((sum, body) => sum + body.byteLength, 0);
    const gzip = sample.reduce((sum, body) => sum + gzipSync(body).byteLength, 0) / sampleBytes;
    console.log(
      `\n${batchSize} ${signal} a batch, ${(raw / bodies.length / 1024).toFixed(0)} KiB each, gzip alone ${gzip.toFixed(3)}`,
    );
    console.log(`  write + fsync each batch, uncompressed       ${await fsyncEach(bodies, 2)}`);
    console.log(
      `  the log, one caller                          ${await append('one', bodies, 1, totalBytes / 16)}`,
    );
    console.log(
      `  the log, 64 callers                          ${await append('many', bodies, 64, totalBytes)}`,
    );
  }
} finally {
  rmSync(root, { recursive: true, force: true });
}
