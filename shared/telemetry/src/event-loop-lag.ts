import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/**
 * Sampling interval. prom-client uses 10 ms: those wake-ups took 3 % of the CPU of a process at 10,000 spans/s, and a third of
 * that of an idle one. Delays longer than this interval are certainly seen.
 */
const EVERY_MS = 100;
/** Maximum timer interval; practically disables prom-client's timer, which cannot be turned off separately. */
export const NEVER_MS = 2 ** 31 - 1;
const NAME = 'nodejs_eventloop_lag';
/** prom-client's metrics, whose values would include its timer's interval. */
const REPLACED = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'] as const;

/**
 * Publishes the lag of the event loop between two scrapes, under prom-client's names.
 * @returns to be called at each scrape
 */
export function eventLoopLag(registry: Registry): () => void {
  for (const value of REPLACED) registry.removeSingleMetric(`${NAME}_${value}_seconds`);
  const histogram = monitorEventLoopDelay({ resolution: EVERY_MS });
  histogram.enable();
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `${NAME}_${name}_seconds`, help, registers: [registry] });
  const percentiles = [50, 90, 99].map(
    (percent) =>
      [
        percent,
        gauge(`p${percent}`, `Event loop lag between two scrapes, ${percent}th percentile.`),
      ] as const,
  );
  const most = gauge('max', 'Event loop lag between two scrapes, maximum.');
  // Node records the time between two firings of the timer.
  const lateness = (ns: number) => Math.max(0, ns / 1e9 - EVERY_MS / 1000);
  return () => {
    for (const [percent, of] of percentiles) of.set(lateness(histogram.percentile(percent)));
    most.set(lateness(histogram.max));
    histogram.reset();
  };
}
