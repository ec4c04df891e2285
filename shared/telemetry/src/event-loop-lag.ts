import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/**
 * A timer every 100 ms, where prom-client's own has one every 10: those wake-ups were 3 % of the CPU of a process at
 * 10,000 spans/s and a third of that of an idle one. What holds the loop up for longer than this is seen for sure.
 */
const EVERY_MS = 100;
/** Of prom-client's timer, which cannot be left out alone: as long as a timer may be. */
export const NEVER_MS = 2 ** 31 - 1;
const NAME = 'nodejs_eventloop_lag';
/** Of prom-client: its values hold the interval of its timer. */
const REPLACED = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'] as const;

/**
 * Publishes how late the event loop was between two scrapes, under prom-client's names and in its place.
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
        gauge(`p${percent}`, `How late the event loop was between two scrapes, ${percent}th percentile.`),
      ] as const,
  );
  const most = gauge('max', 'How late the event loop was between two scrapes, at most.');
  // Node records the time from one firing of the timer to the next.
  const lateness = (ns: number) => Math.max(0, ns / 1e9 - EVERY_MS / 1000);
  return () => {
    for (const [percent, of] of percentiles) of.set(lateness(histogram.percentile(percent)));
    most.set(lateness(histogram.max));
    histogram.reset();
  };
}
