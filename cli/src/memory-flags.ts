/**
 * Memory settings for Node and the C library. Heap limits are read once, before any code runs, so a long-running command
 * replaces itself (same process id) with them.
 */

/** Long-running commands; others end before memory matters. */
const SERVICES = ['up', 'receiver', 'scheduler', 'exporter', 'dlq'];

/**
 * Measured on `nrdot up` at 10,000 spans/s with Redis (BENCHMARKS.md describes the machine):
 * - a young generation of 2 MiB semi-spaces instead of 16: RSS 201 → 147 MiB, with the same CPU;
 * - an old generation that may grow to 64 MiB before the first full collection, instead of one about every second because of
 * external buffers: CPU of the process 140 → 105 ms/s. With 40 MiB, when less code was loaded, an exporter, which holds 39
 * after its start, had two or three full collections during a drain of a second, each for 60 to 100 ms of CPU.
 */
const NODE_FLAGS = ['--max-semi-space-size=2', '--initial-old-space-size=64'];

/**
 * Bodies are larger than 128 KiB and short-lived. glibc raises its mmap threshold to the largest size it has seen, and then
 * keeps their memory: with a fixed threshold RSS is 20 MiB lower. Two arenas instead of eight per core: zlib's and the disk's
 * threads seldom contend.
 */
const ENVIRONMENT = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
};

/** Replaces the process with one that has the flags, unless it has them, was given its own, or the platform cannot. */
export function withMemoryFlags(): void {
  const { argv, execArgv, env, execPath, platform } = process;
  const [, , command = '', next = '-'] = argv;
  // `nrdot dlq stats` and the like are short-lived.
  const stays = SERVICES.includes(command) && next.startsWith('-');
  if (!stays || platform === 'win32' || !process.execve) return;
  if ([...execArgv, env.NODE_OPTIONS ?? ''].some((flag) => flag.includes('semi-space-size'))) return;
  process.execve(execPath, [execPath, ...NODE_FLAGS, ...execArgv, ...argv.slice(1)], {
    ...ENVIRONMENT,
    ...env,
  });
}
