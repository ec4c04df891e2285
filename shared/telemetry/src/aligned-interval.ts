/**
 * Like `setInterval`, but due at multiples of `everyMs` on this process's clock, so that intervals with a common divisor fire
 * in one turn of the event loop, and their writes reach Redis together. Does not keep the process alive.
 * @returns stops it
 */
export function alignedInterval(run: () => void, everyMs: number): () => void {
  let timer: NodeJS.Timeout;
  const next = () => {
    const now = performance.now();
    // A timer that fires a little early must not fire twice.
    const due = Math.ceil((now + 1) / everyMs) * everyMs;
    timer = setTimeout(() => {
      next();
      run();
    }, due - now).unref();
  };
  next();
  return () => clearTimeout(timer);
}
