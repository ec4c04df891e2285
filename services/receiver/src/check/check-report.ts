import type { Signal } from '@nrdot/otlp';
import type { Findings } from './request-check.ts';
import { CHECK_RULE_NAMES, CHECK_RULES, type CheckRule, type Effect } from './rules.ts';

/** A rule that items of one service broke. */
export interface CheckRow {
  rule: CheckRule;
  effect: Effect;
  /** What breaks the rule. */
  what: string;
  signal: Signal;
  /** service.name; empty where there is none. */
  service: string;
  /** Checked items that broke it. */
  items: number;
  /** Names and sizes from the first of them, without values; empty if there is nothing more to say. */
  example: string;
}

export interface CheckReport {
  /** Checked items. */
  checked: Partial<Record<Signal, number>>;
  /** The worst effect first, then by items. */
  rows: CheckRow[];
}

/** Maximum number of rows per service; further services are counted together. */
const ROWS_MAX = 512;
const SERVICE_MAX_CHARS = 128;
export const OTHER_SERVICES = '(other services)';

/** Counts findings by rule, signal and service. */
export class CheckCounts implements Findings {
  readonly #checked = new Map<Signal, number>();
  readonly #rows = new Map<string, CheckRow>();
  readonly #byRule = new Map<string, { signal: Signal; rule: CheckRule; items: number }>();
  #examples = new Map<CheckRule, string>();
  #last: { signal: Signal; broken: number; service: string; counts: { items: number }[] } = {
    signal: 'traces',
    broken: 0,
    service: '',
    counts: [],
  };

  item(signal: Signal, broken: number, service: string): void {
    this.#checked.set(signal, (this.#checked.get(signal) ?? 0) + 1);
    if (broken !== 0) this.#breaks(signal, broken, service);
    if (this.#examples.size > 0) this.#examples.clear();
  }

  /** Examples are kept only for the first item of a service, which is not known yet at this point. */
  wantsExample(rule: CheckRule): boolean {
    return !this.#examples.has(rule) && this.#rows.size < ROWS_MAX;
  }

  example(rule: CheckRule, what: string): void {
    this.#examples.set(rule, what);
  }

  report(): CheckReport {
    return {
      checked: Object.fromEntries(this.#checked),
      rows: [...this.#rows.values()].sort((a, b) => byPlace(a, b) || b.items - a.items),
    };
  }

  /** Items by rule, of all services; the worst effect first. */
  totals(): readonly { signal: Signal; rule: CheckRule; items: number }[] {
    return [...this.#byRule.values()].sort(byPlace);
  }

  #breaks(signal: Signal, broken: number, service: string): void {
    // Items of a resource often break the same rules: looking up their row costs many times as much as counting.
    const last = this.#last;
    if (last.signal !== signal || last.broken !== broken || last.service !== service)
      this.#last = { signal, broken, service, counts: this.#countsOf(signal, broken, service) };
    for (const count of this.#last.counts) count.items++;
  }

  #countsOf(signal: Signal, broken: number, service: string): { items: number }[] {
    const counts: { items: number }[] = [];
    for (let place = 0; place < CHECK_RULE_NAMES.length; place++) {
      if ((broken & (1 << place)) === 0) continue;
      const rule = CHECK_RULE_NAMES[place]!;
      const name = `${signal} ${rule}`;
      let total = this.#byRule.get(name);
      if (!total) this.#byRule.set(name, (total = { signal, rule, items: 0 }));
      counts.push(total, this.#row(signal, rule, service.slice(0, SERVICE_MAX_CHARS)));
    }
    return counts;
  }

  #row(signal: Signal, rule: CheckRule, service: string): CheckRow {
    const key = `${signal} ${rule} ${service}`;
    const known = this.#rows.get(key);
    if (known) return known;
    if (this.#rows.size >= ROWS_MAX && service !== OTHER_SERVICES)
      return this.#row(signal, rule, OTHER_SERVICES);
    const { effect, what } = CHECK_RULES[rule];
    const example = service === OTHER_SERVICES ? '' : (this.#examples.get(rule) ?? '');
    const row: CheckRow = { rule, effect, what, signal, service, items: 0, example };
    this.#rows.set(key, row);
    return row;
  }
}

function byPlace(a: { rule: CheckRule }, b: { rule: CheckRule }): number {
  return CHECK_RULE_NAMES.indexOf(a.rule) - CHECK_RULE_NAMES.indexOf(b.rule);
}
