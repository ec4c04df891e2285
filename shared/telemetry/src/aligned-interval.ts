/**
 * Like `setInterval`, but due at whole multiples of `everyMs` on this process's clock. Intervals whose periods divide each other then
 * fire in one turn of the event loop, and what they write reaches Redis together. Does not keep the process alive.
 * @returns ends it
 */
export function alignedInterval(run: () => void, everyMs: number): () => void {
  let timer: NodeJS.Timeout;
  const next = () => {
    const now = performance.now();
    // One that fires a little early must not fire twice.
    const due = Math.ceil((now + 1) / everyMs) * everyMs;
    timer = setTimeout(() => {
      next();
      run();
    }, due - now).unref();
  };
  next();
  return () => clearTimeout(timer);
}
