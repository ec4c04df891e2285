import type { Signal } from '@nrdot/otlp';
import type { Host } from '@nrdot/service';
import type { FixCounts } from './request-fix.ts';
import { CHECK_RULE_NAMES } from './rules.ts';

/** Whether requests are fixed, by configuration, and the number of fixed items. */
export class LiveFix {
  readonly #fixed: Host['metrics']['checkFixedItems'];
  isOn: boolean;

  constructor(isOn: boolean, { live, metrics }: Pick<Host, 'live' | 'metrics'>) {
    this.isOn = isOn;
    this.#fixed = metrics.checkFixedItems;
    live.follow((next) => () => {
      this.isOn = next.check.fix;
    });
  }

  /** To be called when the request is acknowledged: a rejected one is sent, and fixed, again. */
  count(signal: Signal, counts: FixCounts): void {
    for (const [place, items] of counts.entries())
      if (items > 0) this.#fixed.inc({ rule: CHECK_RULE_NAMES[place]!, signal }, items);
  }
}
