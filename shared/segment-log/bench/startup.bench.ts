/**
 * How long the log takes to open 15 GiB, and how much memory, in a process that does nothing else.
 * Run: node shared/segment-log/bench/startup.bench.ts [directory on the disk]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NodeFileSystem, SegmentLog } from '../src/index.ts';
import { layDownBigDirectory } from '../test/big-directory.ts';
import { options } from '../test/fixture.ts';
import { SimulatedDisk } from '../test/simulated-disk.ts';

const MIB = 1024 * 1024;

async function open(dir: string): Promise<void> {
  const before = process.memoryUsage.rss();
  const startedAt = performance.now();
  const disk = new SimulatedDisk(() => 0);
  const { o } = options(disk, { dir, fs: new NodeFileSystem(), capacityBytes: 16 * 1024 * MIB });
  const log = await SegmentLog.open(o);
  const ms = performance.now() - startedAt;
  const rss = process.memoryUsage.rss();
  const records = log.segments().reduce((sum, segment) => sum + segment.records, 0);
  console.log(
    `${(log.diskBytes / MIB / 1024).toFixed(1)} GiB, ${records} records: ${ms.toFixed(0)} ms, RSS ${(rss / MIB).toFixed(0)} MiB (${(before / MIB).toFixed(0)} before)`,
  );
  await log.close();
}

if (process.argv[2] === 'open') await open(process.argv[3]!);
else {
  const dir = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'nrdot-startup-'));
  try {
    for (const [name, payloadBytes] of [
      ['four segments left open, with batches of 100 KiB', 100 * 1024],
      ['four segments left open, with batches of 4 KiB', 4 * 1024],
      ['four segments left open, with batches of 200 bytes', 200],
    ] as const) {
      rmSync(dir, { recursive: true, force: true });
      const sizes = { sealed: 116, segmentBytes: 128 * MIB, openBytes: 128 * MIB, payloadBytes };
      await layDownBigDirectory(dir, sizes);
      process.stdout.write(`${name}: `);
      spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'open', dir], { stdio: 'inherit' });
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
