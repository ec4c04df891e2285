/**
 * Like `setInterval`, but from the second time on due at whole multiples of `everyMs` on this process's clock. Intervals whose periods
 * divide each other then fire in one turn of the event loop, and what they write reaches Redis together. Does not keep the process alive.
 * @returns ends it
 */
export function alignedInterval(run: () => void, everyMs: number): () => void {
  let timer: NodeJS.Timeout;
  const later = (ms: number) => {
    timer = setTimeout(() => {
      // Half a period at least, so that one that fires a little early does not fire twice.
      const now = performance.now();
      later(Math.ceil(now / everyMs + 0.5) * everyMs - now);
      run();
    }, ms).unref();
  };
  later(everyMs);
  return () => clearTimeout(timer);
}
