/**
 * How this program asks Node and the C library to use memory. Heap limits are read once, before any code runs, so a
 * command that stays starts itself again in place (same process id) with them.
 */

/** Commands that stay. Others are over before memory matters. */
const SERVICES = ['up', 'receiver', 'scheduler', 'exporter', 'dlq'];

/**
 * Measured on `nrdot up` at 10,000 spans/s with Redis (BENCHMARKS.md says on what):
 * - a young generation of 2 MiB halves instead of 16: RSS 201 → 147 MiB, CPU the same;
 * - an old generation that may grow to 64 MiB before the first full collections, instead of one about every second
 *   for want of room beside the buffers: CPU of the process 140 → 105 ms/s. It was 40 while less was loaded: an exporter that
 *   has started holds 39, and had two or three full collections in a drain of a second, each for 60 to 100 ms of CPU.
 */
const NODE_FLAGS = ['--max-semi-space-size=2', '--initial-old-space-size=64'];

/**
 * Bodies are larger than 128 KiB and short-lived. glibc raises its threshold to the largest it has seen and then keeps
 * their memory: RSS 20 MiB lower with a threshold that stays. Two arenas instead of eight per core: zlib and the
 * disk's threads seldom meet.
 */
const ENVIRONMENT = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
};

/** Starts the process again with the flags, unless it has them, was given its own, or the platform can't. */
export function withMemoryFlags(): void {
  const { argv, execArgv, env, execPath, platform } = process;
  const [, , command = '', next = '-'] = argv;
  // `nrdot dlq stats` and its like do not stay.
  const stays = SERVICES.includes(command) && next.startsWith('-');
  if (!stays || platform === 'win32' || !process.execve) return;
  if ([...execArgv, env.NODE_OPTIONS ?? ''].some((flag) => flag.includes('semi-space-size'))) return;
  process.execve(execPath, [execPath, ...NODE_FLAGS, ...execArgv, ...argv.slice(1)], {
    ...ENVIRONMENT,
    ...env,
  });
}
