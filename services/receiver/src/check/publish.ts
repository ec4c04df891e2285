import type { Host } from '@nrdot/service';
import type { LiveCheck } from './live-check.ts';

/** Publishes a check on the admin address and as metrics, and applies changes of its sample rate. */
export function publishCheck(check: LiveCheck, { admin, live, registry, metrics }: Host): void {
  admin.route('GET', '/api/check', () => check.report());
  live.follow((next) => () => {
    check.sample = next.check.sample;
  });
  const told = new Map<string, number>();
  const since = (name: string, items: number) => {
    const before = told.get(name) ?? 0;
    told.set(name, items);
    return items - before;
  };
  registry.onScrape(() => {
    for (const { signal, rule, items } of check.totals())
      metrics.checkItems.inc({ rule, signal }, since(`${signal} ${rule}`, items));
    for (const [signal, items] of Object.entries(check.report().checked))
      metrics.checkSampledItems.inc({ signal }, since(signal, items));
  });
}
